package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Secret is a token or key. It never prints: not by any verb of fmt, nor as JSON, YAML or in slog. Convert it to string where it
// is used. A list of them may be a single one in the file.
//
// Two holes are Go's. fmt calls no methods on unexported fields, so a struct that keeps a Secret in one must not be printed whole; nor does
// it for %p and for %w outside of Errorf, which go vet refuses.
type Secret string

const redacted = "***"

// String returns "***", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return `config.Secret("` + s.String() + `")` }

// Format keeps the secret out of every verb. String alone would not do: for a verb that does not fit, such as %d, fmt prints the
// bare value.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('#') {
		fmt.Fprint(f, s.GoString())
		return
	}
	fmt.Fprintf(f, fmt.FormatString(f, verb), s.String())
}

// LogValue keeps the secret out of slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON keeps the secret out of JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalYAML keeps the secret out of YAML.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
