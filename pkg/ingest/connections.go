package ingest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"eventrouter/pkg/config"

	"github.com/valyala/fasthttp"
)

// connections are all open ones: they are counted, and can be cut off at the end of the grace time.
type connections struct {
	most, mostPerIP int // 0 per address: no limit
	trusted         []netip.Prefix

	mu    sync.Mutex // guards the fields below
	count int
	perIP map[netip.Prefix]int // of addresses that have any and are no trusted proxy
	open  map[net.Conn]struct{}
}

func newConnections(s config.Server) *connections {
	return &connections{
		most: s.MaxConnections, mostPerIP: s.MaxConnectionsPerIP, trusted: s.TrustedProxies,
		perIP: map[netip.Prefix]int{}, open: map[net.Conn]struct{}{},
	}
}

// admit counts a new connection, and says false where there are too many. What it admits must come to track.
func (c *connections) admit(conn net.Conn) bool {
	who, counts := c.owner(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count >= c.most || counts && c.perIP[who] >= c.mostPerIP {
		return false
	}
	c.count++
	if counts {
		c.perIP[who]++
	}
	return true
}

// owner is whom a connection counts for; false: for nobody, as those of a proxy that many clients come through. Who has an IPv6 address
// mostly has all of its network of 64 bits.
func (c *connections) owner(conn net.Conn) (netip.Prefix, bool) {
	addr := tcpAddr(conn.RemoteAddr())
	if c.mostPerIP == 0 || !addr.IsValid() || isTrusted(addr, c.trusted) {
		return netip.Prefix{}, false
	}
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	who, _ := addr.WithZone("").Prefix(bits) // valid for both
	return who, true
}

// track is told of the states of the connections that were admitted.
func (c *connections) track(conn net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		c.mu.Lock()
		c.open[conn] = struct{}{}
		c.mu.Unlock()
	case fasthttp.StateClosed: // one that lingers is open until it says so itself, see lingering
		who, counts := c.owner(conn)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, conn)
		c.count--
		if !counts {
			return
		}
		if c.perIP[who]--; c.perIP[who] <= 0 {
			delete(c.perIP, who)
		}
	}
}

func (c *connections) closeAll() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
	return len(c.open)
}

// listener admits connections within the limits. It waits when the process or the machine is out of descriptors, which fasthttp would take for
// the listener's end.
type listener struct {
	net.Listener
	conns  *connections
	done   <-chan struct{}
	server *Server
}

// Accept waits for a connection that is admitted. Its error is the listener's end.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		switch {
		case err == nil && l.conns.admit(conn):
			return l.server.secure(conn), nil
		case err == nil:
			l.server.tooMany(conn)
			continue
		case !isShortage(err):
			return nil, err
		}
		l.server.opts.Logger.Warn("no new connections for a second", "error", err)
		select {
		case <-time.After(time.Second):
		case <-l.done:
		}
	}
}

// tooMany answers a connection that is not admitted, and closes it: slowly, for else the request, which is on its way, would meet a closed socket, and the answer be
// thrown away on the client's side. Over TLS it only closes: a handshake is what must not be paid for.
func (s *Server) tooMany(conn net.Conn) {
	s.metrics.rejected[reasonConnections].Inc()
	if s.opts.Certificate != nil {
		_ = conn.Close()
		return
	}
	const body = `{"message":"Too many connections","error":"use those that are open, or try again later"}`
	response := fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: %s\r\nContent-Length: %d\r\nRetry-After: 5\r\nConnection: close\r\n\r\n%s", typeJSON, len(body), body)
	if s.lingering.full() {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // an answer so short fits into the socket's buffer
		_, _ = io.WriteString(conn, response)
		_ = conn.Close()
		return
	}
	s.lingering.begin()
	go func() {
		defer s.lingering.end()
		answerAndDrain(conn, response)
		_ = conn.Close()
	}()
}

func isShortage(err error) bool {
	for _, e := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
