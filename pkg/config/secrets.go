package config

import (
	"slices"
	"strings"
)

// shortSecret is the length below which a text is too short to be looked for in others: it would be found in harmless ones.
const shortSecret = 6

// Secrets are the secrets of the file, longest first, to be kept out of what people are shown: the router's own, and in the settings of destinations
// every value whose name speaks of a token, secret, password or key, and wherever they stand, in a script too, the variables whose names do. Very short ones are
// left out.
func (c *Config) Secrets() []string {
	all := []string{string(c.Server.AdminToken)}
	for _, v := range c.Server.Encryption.secrets() {
		all = append(all, string(v))
	}
	for _, v := range c.Variables {
		all = append(all, string(v))
	}
	for _, k := range c.APIKeys {
		for _, secret := range k.secrets() {
			all = append(all, string(secret))
		}
	}
	for _, a := range c.Apps {
		all = append(all, string(a.ClientSecret))
	}
	for _, a := range c.Elsewhere {
		all = append(all, a.secrets()...)
	}
	for _, d := range c.Destinations {
		all = d.Settings.node.secrets(all, false)
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < shortSecret })
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(all)
}

// secrets appends the secrets in n; secret says that n itself stands under the name of one.
func (n *node) secrets(all []string, secret bool) []string {
	if n == nil {
		return all
	}
	if secret && n.text != "" {
		all = append(all, n.text)
	}
	for _, p := range n.pairs {
		all = p.value.secrets(all, secret || namesSecret(p.key))
	}
	for _, item := range n.items {
		all = item.secrets(all, secret)
	}
	return all
}

// namesSecret says whether values of a key are secrets, by its name.
func namesSecret(key string) bool {
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	for _, word := range [...]string{"token", "secret", "password", "api_key", "apikey", "private_key", "credential", "authorization", "cookie"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}
