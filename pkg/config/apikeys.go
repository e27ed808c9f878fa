package config

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"

	"eventrouter/pkg/event"
)

// noKeys shows what to write: a router that makes up a key for itself, as Jitsu does, has one that changes with each start.
const noKeys = `is missing, so no event could be accepted; write: api_keys: [{id: web, client_secret: "${env.CLIENT_SECRET}", server_secret: "${env.SERVER_SECRET}"}]`

// apiKey is one element of `api_keys` in its long form.
type apiKey struct {
	ID           Text     `yaml:"id"`
	ClientSecret secrets  `yaml:"client_secret"`
	ServerSecret secrets  `yaml:"server_secret"`
	Origins      []string `yaml:"origins"`
	Account      Text     `yaml:"account"`

	EnforceOrigins *bool      `yaml:"enforce_origins"`
	RateLimit      *rateLimit `yaml:"rate_limit"`
}

// secrets are one secret, or a list of them: the current one, and those that it replaces.
type secrets []Secret

// maxSecrets of one kind: two are a rotation, and a third lets the next one begin before the last app is updated.
const maxSecrets = 3

// current is the first of them.
func (s secrets) current() Secret {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

func (s secrets) old() []Secret {
	if len(s) < 2 {
		return nil
	}
	return s[1:]
}

// keyIndex finds API keys by what only_tokens may name.
type keyIndex struct {
	sections []Settings        // where each of Config.APIKeys stands
	taken    map[string]bool   // ids
	ids      map[string]string // id or secret: id
	secrets  map[Secret]string // secret: the path where it stands first
	whole    bool              // all that the file has could be read
}

// apiKeys reads all forms of `api_keys`: a list of objects, one client secret, a list of client secrets, {"tokens": […]} as a string.
func (l *loader) apiKeys(section Settings) {
	l.keys = keyIndex{taken: map[string]bool{}, ids: map[string]string{}, secrets: map[Secret]string{}}
	before := len(l.problems)
	known := true
	switch list := section.node; {
	case list.empty():
		if at, a, ok := l.configured(PartAPIKeys, "/api/v1/apikeys"); ok {
			known = l.keysElsewhere(at, a)
			break
		}
		l.fail(l.root, "api_keys", noKeys)
	case list.kind == scalar && !l.sound(list, placeOf(section)):
	case list.kind == mapping:
		l.fail(section, "", "must be a list: begin each API key with a dash")
	case list.kind == sequence:
		l.keyList(section, list)
	case strings.HasPrefix(list.text, "{"), strings.HasPrefix(list.text, "["):
		l.inlineKeys(section)
	case isAddress(list.text):
		a, err := newAddress(PartAPIKeys, list.text, "")
		if err != nil {
			l.fail(section, "", "%v", err)
			break
		}
		known = l.keysElsewhere(section, a)
	default:
		l.apiKey(section)
	}
	l.keys.whole = known && len(l.problems) == before
}

// keysElsewhere reads the keys that stand at a, and reports whether there were any to read.
func (l *loader) keysElsewhere(section Settings, a Address) bool {
	tokens, ok := l.elsewhere(section, a, "tokens")
	if !ok {
		return false
	}
	l.within(tokens.file, func() {
		if tokens.node.kind != sequence || len(tokens.node.items) == 0 {
			// Also for an empty list: a service that lost its data must not shut out everybody.
			l.fail(tokens, "", `must be a list of API keys, at least one: {"tokens": [{"id": "web", "client_secret": "…"}]}`)
			return
		}
		l.sound(tokens.node, placeOf(tokens))
		l.keyList(tokens, tokens.node)
	})
	return true
}

// inlineKeys reads the string {"tokens": […]}, which often is a variable's value: no word of it is shown.
func (l *loader) inlineKeys(section Settings) {
	root, err := parseInline(section.node.text)
	tokens, ok := root.child("tokens")
	if err != nil || !ok || tokens.value.kind != sequence || len(tokens.value.items) == 0 {
		l.fail(section, "", `is not JSON of the form {"tokens": [{"client_secret": "…"}]}`)
		return
	}
	tokens.value.setLine(section.line, section.node)
	section.path += ".tokens"
	l.keyList(section, tokens.value)
}

// parseInline parses a string of the file that is JSON.
func parseInline(text string) (*node, error) {
	data := []byte(text)
	if json.Valid(data) {
		data = plainEscapes(data)
	}
	return parseYAML("", data, nil)
}

// setLine moves n and all below it to the line where they stand in a string of the file. What came from a variable is not quoted.
func (n *node) setLine(line int, in *node) {
	n.line = line
	if in.source != in.text && n.kind == scalar && n.source != "" {
		n.source = "…"
	}
	for i := range n.faults {
		n.faults[i].line = line
	}
	for i := range n.pairs {
		n.pairs[i].line = line
		n.pairs[i].value.setLine(line, in)
	}
	for _, item := range n.items {
		item.setLine(line, in)
	}
}

func (l *loader) keyList(section Settings, list *node) {
	for i, item := range list.items {
		l.apiKey(Settings{path: fmt.Sprintf("%s[%d]", section.path, i), file: section.file, line: item.line, node: item})
	}
}

// apiKey reads one key: an object, or a string that is a client secret.
func (l *loader) apiKey(s Settings) {
	var raw apiKey
	before := len(l.problems)
	if s.node.kind != scalar {
		l.decodeInto(s, &raw)
	} else if l.sound(s.node, placeOf(s)) {
		raw.ClientSecret = secrets{Secret(s.node.text)}
	}
	if len(l.problems) > before {
		return // what follows could only repeat it
	}
	if !l.soundSecrets(s, &raw) {
		return
	}
	id := string(raw.ID)
	if id == "" {
		sum := md5.Sum([]byte(raw.ClientSecret.current() + raw.ServerSecret.current())) // Jitsu's default; it names the key and protects nothing
		id = hex.EncodeToString(sum[:])
	}
	for _, r := range id {
		if !unicode.IsGraphic(r) {
			l.fail(s, "id", "holds characters that cannot be printed")
			break
		}
	}
	l.checkOrigins(s, raw.Origins)
	if err := event.CheckAccount(string(raw.Account)); err != nil {
		l.fail(s, "account", "can name no account: %v", err)
	}
	k := APIKey{
		ID: id, ClientSecret: raw.ClientSecret.current(), ServerSecret: raw.ServerSecret.current(), Origins: raw.Origins,
		OldClientSecrets: raw.ClientSecret.old(), OldServerSecrets: raw.ServerSecret.old(),
		RateLimit: l.rateLimitOf(s, raw.RateLimit), Account: string(raw.Account),
	}
	k.EnforceOrigins = l.enforceOrigins(s, raw.EnforceOrigins, k)
	l.addKey(s, k)
}

// soundSecrets checks the lists of secrets, and takes a single empty one for none.
func (l *loader) soundSecrets(s Settings, raw *apiKey) bool {
	before := len(l.problems)
	for _, list := range []struct {
		name    string
		secrets *secrets
	}{{"client_secret", &raw.ClientSecret}, {"server_secret", &raw.ServerSecret}} {
		if len(*list.secrets) == 1 && (*list.secrets)[0] == "" {
			*list.secrets = nil
		}
		switch {
		case len(*list.secrets) > maxSecrets:
			l.fail(s, list.name, "holds %d secrets, at most %d are valid at a time: the current one first", len(*list.secrets), maxSecrets)
		case slices.Contains(*list.secrets, ""):
			l.fail(s, list.name, "holds an empty secret")
		case len(*list.secrets) > 1 && raw.ID == "":
			l.fail(s, "id", "is required where a key has several secrets: without one it is a hash of the first, and changes with it")
		}
	}
	if len(l.problems) == before && len(raw.ClientSecret)+len(raw.ServerSecret) == 0 {
		l.fail(s, "", "needs a client_secret, a server_secret or both")
	}
	return len(l.problems) == before
}

func (l *loader) checkOrigins(s Settings, origins []string) {
	for i, o := range origins {
		if o == "" || strings.Contains(strings.TrimSuffix(strings.TrimPrefix(o, "*"), "*"), "*") {
			l.fail(s, "origins", "number %d must be a host such as example.com, with * at its beginning or end at most", i+1)
		}
	}
}

// addKey checks k against the keys before it: no two may share an id or a secret, whatever the secret is for.
func (l *loader) addKey(s Settings, k APIKey) {
	if strings.HasPrefix(k.ID, "router:") {
		l.fail(s, "id", "must not begin with router: which stands for what the router itself tells of")
	}
	unique := true
	own := map[Secret]string{}
	for name, secret := range k.secrets() {
		switch own[secret] {
		case "":
			own[secret] = name
		case name:
			l.fail(s, name, "holds a secret twice")
		default:
			l.warn(s, name, "is the client secret too: whoever reads it from a web page can send events as your server")
		}
		if first, ok := l.keys.secrets[secret]; ok {
			unique = false
			l.fail(s, name, "is the same as %s; no two API keys may share a secret", first)
		}
	}
	if unique && l.keys.taken[k.ID] {
		unique = false
		l.fail(s, "id", "is the same as that of an API key before it")
	}
	l.keys.taken[k.ID] = true
	if unique {
		for name, secret := range k.secrets() {
			l.keys.secrets[secret] = joinPath(s.path, name)
			l.keys.ids[string(secret)] = k.ID
		}
	}
	l.keys.ids[k.ID] = k.ID
	l.keys.sections = append(l.keys.sections, s)
	l.cfg.APIKeys = append(l.cfg.APIKeys, k)
}

// secrets are those that k has, the old ones too, by the names of their keys.
func (k APIKey) secrets() iter.Seq2[string, Secret] {
	return func(yield func(string, Secret) bool) {
		for _, list := range []struct {
			name    string
			current Secret
			old     []Secret
		}{{"client_secret", k.ClientSecret, k.OldClientSecrets}, {"server_secret", k.ServerSecret, k.OldServerSecrets}} {
			for _, secret := range append([]Secret{list.current}, list.old...) {
				if secret != "" && !yield(list.name, secret) {
					return
				}
			}
		}
	}
}

// checkIDs refuses ids that are a secret: ids are shown in logs and metrics.
func (l *loader) checkIDs() {
	for i, k := range l.cfg.APIKeys {
		if _, ok := l.keys.secrets[Secret(k.ID)]; ok {
			l.fail(l.keys.sections[i], "id", "is also a secret; ids are shown in logs and metrics, choose another")
		}
	}
}
