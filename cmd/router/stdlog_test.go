package main

import (
	"bufio"
	"context"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestAnswersAreNotQuoted: net/http writes what comes behind an answer to the standard logger. It may be of a person, and is not to be where the log goes.
func TestAnswersAreNotQuoted(t *testing.T) {
	if err := run(context.Background(), []string{"version"}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if got := stdlog.Writer(); got != io.Discard {
		stdlog.SetOutput(write) // where it would have gone
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		br := bufio.NewReader(conn)
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{planted@example.com}")
		}
		_, _ = br.ReadByte() // until net/http has seen it, and closes
	}()
	tr := &http.Transport{}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ln.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(res.Body)
	res.Body.Close()
	<-closed
	write.Close()
	if text, _ := io.ReadAll(read); strings.Contains(string(text), "planted") {
		t.Errorf("stderr has what came behind an answer: %s", text)
	}
}
