package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Parts of a configuration that may stand elsewhere.
const (
	PartAPIKeys      = "api_keys"
	PartDestinations = "destinations"
)

// Address is where a part of the configuration stands, if not in the file: a URL or the name of another file. Two are equal when they name the
// same place with the same credentials.
type Address struct {
	Part string // PartAPIKeys or PartDestinations

	raw   Secret // as the configuration has it
	token Secret // the admin token of a configurator
}

// addressPrefixes tell the forms that Jitsu fetches.
var addressPrefixes = []string{"http://", "https://", "file://", "/"}

func isAddress(text string) bool {
	return slices.ContainsFunc(addressPrefixes, func(prefix string) bool { return strings.HasPrefix(text, prefix) })
}

// newAddress checks text, for which isAddress holds. Its error quotes none of it.
func newAddress(part, text string, token Secret) (Address, error) {
	a := Address{Part: part, raw: Secret(text), token: token}
	if path, ok := a.path(); ok {
		if path == "" {
			return a, errors.New("lacks the name of a file after file://")
		}
		return a, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return a, errors.New("is not a valid URL: write https://host/path, with reserved characters of a password escaped (%40 is @)")
	}
	return a, nil
}

// path is the file's name; false for a URL. As in Jitsu, what follows file:// is the path, and it may be relative.
func (a Address) path() (string, bool) {
	text := string(a.raw)
	if rest, ok := strings.CutPrefix(text, "file://"); ok {
		return rest, true
	}
	return text, strings.HasPrefix(text, "/")
}

// IsFile says whether a is the name of a file.
func (a Address) IsFile() bool { _, ok := a.path(); return ok }

// String names the address for people: without user, password and query, which may be secrets.
func (a Address) String() string {
	if path, ok := a.path(); ok {
		return path
	}
	u, err := url.Parse(string(a.raw))
	if err != nil {
		return "an address that is not valid"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// GoString is String, for %#v: fmt calls no methods on the secrets inside.
func (a Address) GoString() string { return fmt.Sprintf("config.Address(%q)", a.String()) }

// exposed says whether what stands at a URL travels over a network in plain text.
func exposed(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err != nil || !ip.IsLoopback()
}

// secrets are what is not to be shown of the address.
func (a Address) secrets() []string {
	all := []string{string(a.token)}
	if _, isFile := a.path(); isFile {
		return all
	}
	u, err := url.Parse(string(a.raw))
	if err != nil {
		return all
	}
	if password, ok := u.User.Password(); ok {
		all = append(all, password, u.User.String())
	}
	for _, values := range u.Query() {
		all = append(all, values...)
	}
	return append(all, u.RawQuery)
}

// host is who is asked, to tell whether a redirect leads elsewhere.
func hostOf(u *url.URL) string {
	if u.Port() != "" {
		return strings.ToLower(u.Host)
	}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
