package ingest

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

var trustedProxies = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fd00::/8"),
}

// clientIPOf is the stored address for a request from peer with lines of X-Forwarded-For.
func clientIPOf(peer net.Addr, lines ...string) string {
	var req fasthttp.Request
	for _, line := range lines {
		req.Header.Add("X-Forwarded-For", line)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, peer, nil)
	b := acquireBatch()
	defer b.release()
	return strings.Clone(b.addressText(clientAddr(&ctx, trustedProxies)))
}

func TestClientIP(t *testing.T) {
	f := func(peer, want string, lines ...string) {
		t.Helper()
		addr := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(peer), 4711))
		if got := clientIPOf(addr, lines...); got != want {
			t.Errorf("from %s, %q: got %q, want %q", peer, lines, got, want)
		}
	}
	f("192.0.2.1", "192.0.2.1")
	f("::ffff:192.0.2.1", "192.0.2.1")
	f("2001:db8::1", "2001:db8::1")
	f("fe80::1%eth0", "fe80::1")

	// Nobody believes a stranger.
	f("192.0.2.1", "192.0.2.1", "198.51.100.1")

	f("127.0.0.1", "198.51.100.1", "198.51.100.1")
	f("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1")
	f("::1", "2001:db8::7", "2001:db8:0:0::7")
	f("fd00::1", "2001:db8::7", "[2001:db8::7]:1234")
	f("10.0.0.1", "198.51.100.1", "198.51.100.1:5555")
	f("10.0.0.1", "198.51.100.1", "[::ffff:198.51.100.1]")
	f("10.0.0.1", "fe80::2", "fe80::2%eth0")

	// From the right, past our own proxies, over several lines; what a client made up stands further left.
	f("127.0.0.1", "198.51.100.2", "198.51.100.1, 198.51.100.2, 10.1.1.1")
	f("127.0.0.1", "198.51.100.2", "198.51.100.1, 198.51.100.2", "10.1.1.1,10.2.2.2")
	f("127.0.0.1", "198.51.100.2", "198.51.100.1,,198.51.100.2 , ")
	f("127.0.0.1", "10.3.3.3", "10.3.3.3, 10.1.1.1")

	// Never garbage: the nearest address that is known.
	f("127.0.0.1", "127.0.0.1", "")
	f("127.0.0.1", "127.0.0.1", "unknown")
	f("127.0.0.1", "127.0.0.1", "198.51.100.1, _hidden")
	f("127.0.0.1", "10.1.1.1", "198.51.100.1, <script>, 10.1.1.1")
	f("127.0.0.1", "127.0.0.1", "[2001:db8::7")
	f("127.0.0.1", "127.0.0.1", "0.0.0.0")
	f("127.0.0.1", "127.0.0.1", "1.2.3.4.5")

	if got := clientIPOf(&net.UnixAddr{Name: "@"}, "198.51.100.1"); got != "" {
		t.Errorf("over a socket that is no TCP: got %q", got)
	}
}

func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{
		"198.51.100.1", "198.51.100.1, 10.0.0.1", "[2001:db8::7]:80", "::1%eth0", ",,", "[", "]:", "1.2.3.4:", ":80", "fe80::1%", "unknown, 10.0.0.1", "::%0", "::ffff:0.0.0.0%0",
	} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		peer := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
		got, err := netip.ParseAddr(clientIPOf(peer, first, second))
		if err != nil || got.Zone() != "" || got.Is4In6() || got.IsUnspecified() {
			t.Errorf("%q, %q: stored %q, %v", first, second, got, err)
		}
		stranger := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
		if got := clientIPOf(stranger, first, second); got != "192.0.2.1" {
			t.Errorf("%q, %q from a stranger: stored %q", first, second, got)
		}
	})
}
