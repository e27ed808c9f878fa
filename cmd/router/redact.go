package main

import (
	"encoding/json"
	"strings"

	"eventrouter/pkg/config"
)

// redactor keeps the secrets of a configuration out of what people are shown, wherever a client may have put them.
type redactor struct{ replacer *strings.Replacer }

func newRedactor(cfg *config.Config) redactor {
	var pairs []string
	for _, secret := range cfg.Secrets() {
		pairs = append(pairs, secret, "***")
		if quoted, err := json.Marshal(secret); err == nil && string(quoted[1:len(quoted)-1]) != secret {
			pairs = append(pairs, string(quoted[1:len(quoted)-1]), "***") // as it stands in JSON
		}
	}
	return redactor{strings.NewReplacer(pairs...)}
}

// json encodes v without secrets.
func (r redactor) json(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return []byte(r.replacer.Replace(string(data))), nil
}
