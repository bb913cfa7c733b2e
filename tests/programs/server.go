// An HTTP server that says what it was asked, and ends on SIGTERM.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	server := &http.Server{Addr: "0.0.0.0:" + os.Args[1]}
	server.Handler = http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(answer, "%s %s\n", request.Method, request.URL.Path)
	})
	go server.ListenAndServe()
	notice := make(chan os.Signal, 1)
	signal.Notify(notice, syscall.SIGTERM)
	<-notice
	server.Shutdown(context.Background())
	fmt.Println("closed")
}
