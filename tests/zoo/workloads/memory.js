// Keep objects and buffers for two seconds.
const kept = [];
function keepObjects() { for (let i = 0; i < 300000; i++) kept.push({ id: i, name: 'n' + i }); }
function keepBuffers() { for (let i = 0; i < 20; i++) kept.push(Buffer.alloc(1000000, i)); }
keepObjects();
keepBuffers();
setTimeout(() => { console.log(kept.length); process.exit(16); }, 2500);
