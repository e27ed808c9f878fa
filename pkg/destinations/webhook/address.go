package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"eventrouter/pkg/config"
	"eventrouter/pkg/filters"
)

// address is the configured URL.
type address struct {
	scheme, host, port string // in small letters
	origin             string
	url                *filters.Text // says whether an event changes it; each user compiles their own
	hub                string
	shown              string // for people: what may be a secret is left out
}

// fixedPart matches what of a URL must not change with the event.
var fixedPart = regexp.MustCompile(`^(?i:https?)://([^/?#{}\s\\]+)($|[/?])`)

// address checks `url`.
func (c *checker) address(src string, nets networks) (a address) {
	text, err := filters.CompileText(src, c.options(), escapePlace)
	if err != nil {
		c.fail("url", "%v", err)
		return a
	}
	a.url = text
	switch m := fixedPart.FindStringSubmatch(src); {
	case src == "":
		c.fail("url", "is required: where events are sent to")
		return a
	case !strings.HasPrefix(strings.ToLower(src), "http://") && !strings.HasPrefix(strings.ToLower(src), "https://"):
		c.fail("url", "must begin with https:// or http://")
		return a
	case m == nil:
		c.fail("url", "must have a host that no event changes, and a / after it; for another host make another destination, with a filter")
		return a
	case strings.Contains(m[1], "@"):
		c.fail("url", "must not hold a user name or password; write them in headers: {Authorization: Basic …}")
		return a
	}
	base, rest := src, ""
	if i := strings.Index(src, "{{"); i >= 0 {
		base, rest = src[:i], src[i:]
	}
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Hostname() == "":
		c.fail("url", "is no URL")
		return a
	case strings.Contains(src, "#"):
		c.fail("url", "must not have a fragment (#…): it would never be sent")
	case text.Constant() && dotted(u):
		c.fail("url", "must not have . or .. in its path")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := nets.check(ip); err != nil {
			c.fail("url", "%v", err)
		}
	}
	a.scheme, a.host, a.port = strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), portOf(u)
	a.origin = origin(u)
	path, query := cutQuery(base[len(u.Scheme)+len("://")+len(u.Host):] + rest)
	a.shown = a.scheme + "://" + strings.ToLower(u.Host) + hideSegments(path)
	a.hub = a.shown
	if hideSegments(path) != path { // what is left out tells receivers apart
		sum := sha256.Sum256([]byte(path))
		a.hub += "#" + hex.EncodeToString(sum[:4])
	}
	if query != "" {
		a.shown += "?…"
	}
	return a
}

// cutQuery parts a path from the query behind it. A ? in a place is not one.
func cutQuery(s string) (path, query string) {
	depth := 0
	for i := range len(s) {
		switch {
		case strings.HasPrefix(s[i:], "{{"):
			depth++
		case strings.HasPrefix(s[i:], "}}"):
			depth--
		case s[i] == '?' && depth == 0:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// Some services take whoever knows their URL for authorised: a long segment of letters and digits is such a key, most likely.
var keySegment = regexp.MustCompile(`^[A-Za-z0-9_.~%-]*[0-9][A-Za-z0-9_.~%-]*$`)

const shortestKey = 16

// hideSegments writes *** for the segments of a path that may be secrets.
func hideSegments(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if isKey(s) {
			segments[i] = "***"
		}
	}
	return strings.Join(segments, "/")
}

func isKey(segment string) bool {
	return len(segment) >= shortestKey && keySegment.MatchString(segment)
}

// origin is scheme, host and port of a URL, the port also where it is the usual one.
func origin(u *url.URL) string {
	return strings.ToLower(u.Scheme) + "://" + net.JoinHostPort(strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")), portOf(u))
}

func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case strings.EqualFold(u.Scheme, "http"):
		return "80"
	}
	return "443"
}

// dotted says whether a path has segments that lead elsewhere in it.
func dotted(u *url.URL) bool {
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if s, err := url.PathUnescape(segment); err == nil && (s == "." || s == "..") {
			return true
		}
	}
	return false
}

// escapePlace escapes a value for any part of a URL behind the host: all but the characters that mean nothing anywhere.
func escapePlace(s string) string {
	const hexDigits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

// maxURL bounds what templates make.
const maxURL = 16 << 10

// parseURL checks a URL that a template or a script has made.
func (d *Destination) parseURL(text string) (*url.URL, error) {
	if len(text) > maxURL {
		return nil, fmt.Errorf("the url is longer than %d bytes", maxURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil: // which quotes it
		return nil, errors.New("what it makes is no URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("it must begin with https:// or http:// and a host")
	case u.User != nil:
		return nil, errors.New("it must not hold a user name or password; write them in headers")
	case dotted(u):
		return nil, errors.New("a segment of its path is . or .., which leads elsewhere")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := d.networks.check(ip); err != nil {
			return nil, err
		}
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// proxy checks `proxy`.
func (c *checker) proxy(secret config.Secret) {
	if secret == "" {
		return
	}
	u, err := url.Parse(string(secret))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		c.fail("proxy", "must be the URL of an HTTP proxy, such as http://proxy.example.com:3128")
	}
}
