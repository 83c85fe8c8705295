// Keep memory in Go and in C.
package main

/*
#include <stdlib.h>
#include <string.h>
static void *fill(void) { void *p = malloc(20000000); memset(p, 1, 20000000); return p; }
*/
import "C"
import (
	"fmt"
	"time"
)

var kept [][]byte

func keep() {
	for i := 0; i < 300; i++ {
		block := make([]byte, 100000)
		for j := range block {
			block[j] = byte(i)
		}
		kept = append(kept, block)
	}
}

func main() {
	p := C.fill()
	keep()
	time.Sleep(2 * time.Second)
	fmt.Println(len(kept), p != nil)
}
