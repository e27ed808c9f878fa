package main

import (
	"bytes"
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
	}
	return redactor{strings.NewReplacer(pairs...)}
}

// json encodes v without secrets. It looks into texts as they read, however they are escaped; a number is no secret, and stays.
func (r redactor) json(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out []byte
	for {
		start := bytes.IndexByte(data, '"')
		if start < 0 {
			return append(out, data...), nil
		}
		end := start + 1
		for data[end] != '"' {
			if data[end] == '\\' {
				end++
			}
			end++
		}
		end++
		text := data[start:end]
		out = append(out, data[:start]...)
		data = data[end:]
		var plain string
		if err := json.Unmarshal(text, &plain); err != nil {
			return nil, err
		}
		if clean := r.replacer.Replace(plain); clean != plain {
			if text, err = json.Marshal(clean); err != nil {
				return nil, err
			}
		}
		out = append(out, text...)
	}
}
