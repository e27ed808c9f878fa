package endusers

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/golang-jwt/jwt/v5"
)

// claims are those that are read. Times are pointers: absent is not 1970.
type claims struct{ jwt.RegisteredClaims }

// twiceError says that a claim stands in a token twice.
type twiceError struct{ claim string }

func (e *twiceError) Error() string { return e.claim + " stands there twice" }

// UnmarshalJSON takes claims by their exact names, each once. encoding/json takes "SUB" and even "ſub" for sub, and the last of several: a claim of another name, which a team may let its users
// choose, would then say whose account it is.
func (c *claims) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("is no object")
	}
	into := map[string]any{"sub": &c.Subject, "iss": &c.Issuer, "aud": &c.Audience, "iat": &c.IssuedAt, "exp": &c.ExpiresAt, "nbf": &c.NotBefore}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		field := into[name]
		if field == nil {
			continue
		}
		if seen[name] {
			return &twiceError{name}
		}
		seen[name] = true
		if err := setClaim(name, field, value); err != nil {
			return err
		}
	}
	return nil
}

func setClaim(name string, field any, value json.RawMessage) error {
	if _, isTime := field.(**jwt.NumericDate); isTime && value[0] == '"' { // which the library takes
		return &json.UnmarshalTypeError{Value: "string", Field: name}
	}
	err := json.Unmarshal(value, field)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		wrong.Field = name
	}
	return err
}
