package webhook

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"eventrouter/pkg/config"
)

// networks say which addresses may be called. The zero value allows the public ones.
type networks struct {
	private bool           // own networks as well
	listed  []netip.Prefix // these as well, whatever they are
}

// own are networks of somebody's own: `allow_private: true` opens them.
var own = prefixes(
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
	"127.0.0.0/8", "::1/128", // this machine
	"100.64.0.0/10", // carriers' own, and overlay networks (RFC 6598)
	"fc00::/7",      // unique local (RFC 4193)
)

// services are addresses at which clouds tell whoever asks the machine's credentials. Only listing them opens them.
var services = prefixes("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "fd20:ce::/32", "fd00:42::42/128", "100.100.100.200/32", "168.63.129.16/32")

// special are addresses that are no place in the public network. IPv6 is the other way round: what is not in public6 is special.
var special = prefixes(
	"0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	"2001::/23",                  // Teredo, which holds an IPv4 address, and other protocols
	"2002::/16",                  // 6to4, which holds one as well
	"2001:db8::/32", "3fff::/20", // documentation
)

// public6 is what is given out of IPv6. Mapped addresses, NAT64 and the like are outside of it.
var public6 = netip.MustParsePrefix("2000::/3")

func prefixes(all ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(all))
	for i, s := range all {
		list[i] = netip.MustParsePrefix(s)
	}
	return list
}

// refusedError says that an address is not called.
type refusedError struct {
	addr netip.Addr
	what string
	fix  string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s is %s, which is not called%s", e.addr, e.what, e.fix)
}

// check returns nil if the address may be called, else a *refusedError.
func (n *networks) check(addr netip.Addr) error {
	plain := addr.Unmap().WithZone("") // ::ffff:10.0.0.1 is 10.0.0.1
	in := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(plain) })
	}
	switch {
	case in(n.listed):
		return nil
	case in(services):
		return &refusedError{plain, "an address of the machine's own link or of its cloud", "; if it is meant, list its network in allow_private"}
	case in(own):
		if n.private {
			return nil
		}
		return &refusedError{plain, "a private address", "; if it is meant, list its network in allow_private, or write allow_private: true"}
	case in(special), plain.Is6() && !public6.Contains(plain):
		return &refusedError{plain, "no public address", "; if it is meant, list its network in allow_private"}
	}
	return nil
}

// control is for [net.Dialer]: it sees the address that a connection is about to be made to, after all that DNS says.
func (n *networks) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%q is no address", address)
	}
	return n.check(at.Addr())
}

// networks reads `allow_private`.
func (c *checker) networks(words config.Words) (n networks) {
	for i, w := range words {
		switch p, err := netip.ParsePrefix(w); {
		case len(words) == 1 && isTrue(w):
			n.private = true
		case len(words) == 1 && isFalse(w):
		case err == nil:
			n.listed = append(n.listed, p.Masked())
		default:
			if a, err := netip.ParseAddr(w); err == nil {
				n.listed = append(n.listed, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
				continue
			}
			key := "allow_private"
			if len(words) > 1 {
				key = fmt.Sprintf("allow_private[%d]", i)
			}
			c.fail(key, "%q is neither true, false nor a network such as 10.1.0.0/16", w)
		}
	}
	return n
}

// isTrue and isFalse know the words that the configuration knows elsewhere.
func isTrue(w string) bool {
	return slices.Contains([]string{"true", "yes", "on", "y"}, strings.ToLower(w))
}

func isFalse(w string) bool {
	return slices.Contains([]string{"false", "no", "off", "n"}, strings.ToLower(w))
}
