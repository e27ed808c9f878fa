package config

import (
	"cmp"
	"encoding/json"
	"slices"

	"gopkg.in/yaml.v3"
)

// JitsuKey is a key of Jitsu's that this router does not have.
type JitsuKey struct {
	Section string // where it stands: "" is the top level, else server, server.log, api_keys, destinations or data_layout
	Name    string
	Advice  string // what to do instead
}

// JitsuKeys lists the keys of Jitsu's that are accepted in a file and mean nothing here, by section and name.
func JitsuKeys() []JitsuKey {
	var all []JitsuKey
	for section, keys := range map[string]map[string]leftOut{
		"": fileLeftOut, "server": serverLeftOut, "server.log": serverLogLeftOut, "api_keys": apiKeyLeftOut,
		"destinations": destinationLeftOut, "data_layout": dataLayoutLeftOut,
	} {
		for name, l := range keys {
			all = append(all, JitsuKey{section, name, l.advice})
		}
	}
	slices.SortFunc(all, func(a, b JitsuKey) int {
		return cmp.Or(cmp.Compare(a.Section, b.Section), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// FileKeys lists, by dots, the keys that this router has: those of the top level and of server, and after "api_keys.*." and "destinations.*." those
// of an element. What a destination's own package decodes is not among them.
func FileKeys() []string {
	all := Keys(file{})
	for prefix, keys := range map[string][]string{"api_keys.*.": Keys(apiKey{}), "destinations.*.": Keys(destination{})} {
		for _, key := range keys {
			all = append(all, prefix+key)
		}
	}
	slices.Sort(all)
	return all
}

// Document returns the one document of a file as the YAML library's tree, for a program that edits it: JSON is YAML too. Nil: the file is empty. The
// tree is within the bounds of a configuration, aliases included. An error is a [Problems], and quotes nothing of the file but words of YAML.
func Document(name string, data []byte) (*yaml.Node, error) {
	if json.Valid(data) {
		data = plainEscapes(data)
	}
	if _, err := parseYAML(name, data, nil); err != nil {
		return nil, err
	}
	doc, err := readDocument(data)
	if err != nil {
		return nil, Problems{syntaxProblem(name, err)}
	}
	return doc, nil
}

// NamesSecret says whether what stands under a key, or below it, is not to be shown, by the key's name.
func NamesSecret(key string) bool {
	return secretName.MatchString(key) && !openNames[key] || namesSecret(key)
}
