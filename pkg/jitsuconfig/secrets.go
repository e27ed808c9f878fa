package jitsuconfig

import (
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"eventrouter/pkg/config"
)

// shortSecret is the length below which a text is too short to be looked for in others: it would be found in harmless ones.
const shortSecret = 6

// secrets are those that stand in the file itself.
type secrets struct {
	values []string // the longest first: one may begin with another
	places []place
}

// place is where a secret stands.
type place struct {
	line int
	path string
}

var (
	passwordInURL = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[^/@\s]*:([^/@\s]+)@`)
	secretInURL   = regexp.MustCompile(`(?i)^https?://[^?\s]*\?(?:[^#\s]*&)?[^=&#\s]*(?:token|key|secret|passw|auth)[^=&#\s]*=([^&#\s]+)`)
	// plainName is what a key looks like that is one.
	plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

// notSecret are keys that sound like those of secrets. What only_tokens names is found where it is the secret of a key.
var notSecret = map[string]bool{"only_tokens": true, "primary_key_fields": true, "strict_auth_tokens": true, "auth_reload_sec": true}

// secretsOf finds the secrets in a tree.
func secretsOf(n *yaml.Node) secrets {
	var s secrets
	s.collect(n, "", false)
	slices.SortFunc(s.values, func(a, b string) int { return len(b) - len(a) })
	return s
}

// collect collects from n; secret says that n stands below the name of a secret.
func (s *secrets) collect(n *yaml.Node, path string, secret bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		s.scalar(n, path, secret)
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, v := n.Content[i].Value, n.Content[i+1]
			name := strings.ToLower(key)
			if name == "api_keys" {
				s.keys(v, join(path, shown(key)))
			} else {
				s.collect(v, join(path, shown(key)), secret || config.NamesSecret(name) && !notSecret[name])
			}
		}
	default:
		for _, item := range n.Content {
			s.collect(item, path, secret)
		}
	}
}

// keys collects from API keys, which may be mere secrets.
func (s *secrets) keys(n *yaml.Node, path string) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for _, item := range items {
		s.collect(item, path, item.Kind == yaml.ScalarNode && !isAddress(item.Value))
	}
}

func (s *secrets) scalar(n *yaml.Node, path string, secret bool) {
	found := ""
	if m := passwordInURL.FindStringSubmatch(n.Value); m != nil {
		found = m[1]
	} else if m := secretInURL.FindStringSubmatch(n.Value); m != nil {
		found = m[1]
	} else if secret && n.Tag != "!!bool" {
		found = n.Value
	}
	if len(found) < shortSecret || hasVariable(found) {
		return
	}
	s.values = append(s.values, found)
	s.places = append(s.places, place{n.Line, path})
}

// isAddress says whether a value names a place to read from.
func isAddress(s string) bool {
	for _, prefix := range [...]string{"http://", "https://", "file://", "/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// shown is a key as a note may show it: what looks like no key may be a value that lost its own.
func shown(key string) string {
	if plainName.MatchString(key) {
		return key
	}
	return "…"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
