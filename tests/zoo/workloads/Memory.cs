using System;
using System.Collections.Generic;
using System.Threading;

static class Memory
{
    static readonly List<object> Kept = new List<object>();

    static void Keep()
    {
        for (int i = 0; i < 300000; i++) Kept.Add("text " + i);
        for (int i = 0; i < 30; i++) Kept.Add(new byte[1000000]);
    }

    static int Main()
    {
        Keep();
        Thread.Sleep(2000);
        Console.WriteLine(Kept.Count);
        return 5;
    }
}
