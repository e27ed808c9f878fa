package ingest

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// A handler learns that its client has gone, and requests behind the one in hand, or after it, are read as ever.
func TestWatch(t *testing.T) {
	f := func(name string, o Options, dial func(addr string) (net.Conn, error), leave func(net.Conn) error) {
		t.Helper()
		begun, goOn, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
		o.Mounts = []Mount{{Prefix: "/wait/", MaxBody: 100, Handler: func(ctx *fasthttp.RequestCtx) {
			gone := make(chan struct{})
			stop := ctx.Conn().(interface{ Watch(func()) func() }).Watch(func() { close(gone) })
			defer stop()
			body := string(ctx.Request.Body())
			if strings.HasSuffix(string(ctx.Path()), "/long") {
				begun <- struct{}{}
				select {
				case <-goOn:
				case <-gone:
					left <- struct{}{}
				}
			}
			ctx.SetBodyString(body)
		}}}
		addr := strings.TrimPrefix(start(t, o), "http://")
		conn, err := dial(addr)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer conn.Close()
		br := bufio.NewReader(conn)
		send := func(path, body string) {
			t.Helper()
			if _, err := io.WriteString(conn, "POST /wait/"+path+" HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n"+body+"\r\n0\r\n\r\n"); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		answered := func(want string) {
			t.Helper()
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || string(body) != want {
				t.Errorf("%s: got %d %q, %v, want %q", name, res.StatusCode, body, err, want)
			}
		}
		for range 2 {
			send("long", "a")
			<-begun
			send("short", "b") // its first byte meets the watch
			send("long", "c")
			goOn <- struct{}{}
			<-begun
			goOn <- struct{}{}
			answered("a")
			answered("b")
			answered("c")
			send("short", "d")
			answered("d")
		}
		send("long", "e")
		<-begun
		if err := leave(conn); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		<-left
	}
	plain := func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }
	closes := func(c net.Conn) error { return c.Close() }
	f("closed", testOptions(&memoryLog{}), plain, closes)
	f("reset", testOptions(&memoryLog{}), plain, func(c net.Conn) error {
		if err := c.(*net.TCPConn).SetLinger(0); err != nil {
			return err
		}
		return c.Close()
	})
	f("half closed", testOptions(&memoryLog{}), plain, func(c net.Conn) error { return c.(*net.TCPConn).CloseWrite() })
	secure := testOptions(&memoryLog{})
	cert, err := NewCertificate(pairFiles(t)(testPair(t, 1, time.Now().Add(90*24*time.Hour))), CertificateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secure.Certificate = cert
	f("TLS", secure, func(addr string) (net.Conn, error) {
		return tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	}, closes)
}
