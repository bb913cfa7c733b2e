// The Go runtime: goroutines, channels, timers, garbage collection, preemption, files, the loopback interface.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func goroutines() {
	results := make(chan int)
	var group sync.WaitGroup
	for i := 0; i < 2000; i++ {
		group.Add(1)
		go func(n int) { defer group.Done(); time.Sleep(time.Millisecond); results <- n }(i)
	}
	go func() { group.Wait(); close(results) }()
	sum := 0
	for n := range results {
		sum += n
	}
	fmt.Println("goroutines", sum)
}

// A loop without a call is only left by a signal of the runtime.
func preemption() {
	var stop, spins int64
	go func() {
		for atomic.LoadInt64(&stop) == 0 {
			spins++
		}
	}()
	for i := 0; i < 10; i++ {
		time.Sleep(time.Millisecond)
		runtime.GC()
	}
	atomic.StoreInt64(&stop, 1)
	fmt.Println("preempted")
}

func garbage() {
	var keep [64][]byte
	for i := 0; i < 20000; i++ {
		keep[i%64] = make([]byte, 10000)
		keep[i%64][i%10000] = 1
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Println("collected", stats.NumGC > 0)
}

func fault() {
	defer func() { fmt.Println("recovered:", recover()) }()
	var nothing *int
	*nothing = 1
}

func files() {
	directory, _ := os.MkdirTemp("", "eyot-go")
	defer os.RemoveAll(directory)
	for i := 0; i < 50; i++ {
		os.WriteFile(filepath.Join(directory, fmt.Sprint("f", i)), make([]byte, i), 0o600)
	}
	total := int64(0)
	filepath.Walk(directory, func(_ string, info os.FileInfo, _ error) error {
		if info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	_, missing := os.ReadFile(filepath.Join(directory, "none"))
	fmt.Println("files", total, os.IsNotExist(missing))
}

func network() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(connection, connection); connection.Close() }()
		}
	}()
	var group sync.WaitGroup
	var good int64
	for i := 0; i < 50; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			connection, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return
			}
			connection.Write(make([]byte, 10000))
			connection.(*net.TCPConn).CloseWrite()
			if data, _ := io.ReadAll(connection); len(data) == 10000 {
				atomic.AddInt64(&good, 1)
			}
		}()
	}
	group.Wait()
	listener.Close()
	waiting, _ := net.ListenPacket("udp", "127.0.0.1:0")
	waiting.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, _, err = waiting.ReadFrom(make([]byte, 10))
	fmt.Println("network", good, os.IsTimeout(err))
}

func main() {
	goroutines()
	preemption()
	garbage()
	fault()
	files()
	network()
	notice := make(chan os.Signal, 1)
	signal.Notify(notice, syscall.SIGUSR1)
	syscall.Kill(syscall.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-notice)
	ticker, ticks := time.NewTicker(time.Millisecond), 0
	for range ticker.C {
		if ticks++; ticks == 20 {
			break
		}
	}
	fmt.Printf("%d ticks, %x\n", ticks, sha256.Sum256([]byte("eyot")))
	fmt.Println("done")
}
