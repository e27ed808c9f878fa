package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"eventrouter/pkg/event"
)

// Record is a record (package event). As JSON it is the event with its envelope, for people; what would not come back to the last byte is base64. Nil is none.
type Record []byte

// shownRecord is a record as JSON.
type shownRecord struct {
	Record []byte `json:"record,omitempty"` // the whole, as base64, and nothing else

	ID            string          `json:"id,omitempty"`
	APIKey        string          `json:"api_key,omitempty"`
	Account       string          `json:"account,omitempty"`
	Received      time.Time       `json:"received,omitzero"`
	Class         event.Class     `json:"class,omitempty"`
	Server        bool            `json:"server,omitempty"`
	Enveloped     bool            `json:"enveloped,omitempty"`
	Source        string          `json:"source,omitempty"`
	SourceIP      string          `json:"source_ip,omitempty"`
	UserAgent     string          `json:"user_agent,omitempty"`
	Email         string          `json:"email,omitempty"`
	AnonymousHash string          `json:"anonymous_hash,omitempty"`
	Added         json.RawMessage `json:"added,omitempty"`
	Hidden        event.Hidden    `json:"hidden,omitempty"`
	JSON          json.RawMessage `json:"json,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (r Record) MarshalJSON() ([]byte, error) {
	var ev event.Event
	if ev.Decode(r) == nil {
		text, err := plainJSON(&shownRecord{
			ID: ev.ID, APIKey: ev.APIKey, Account: ev.Account, Received: ev.Received, Class: ev.Class, Server: ev.Server, Enveloped: ev.Enveloped, Source: ev.Source,
			SourceIP: ev.SourceIP, UserAgent: ev.UserAgent, Email: ev.Email, AnonymousHash: ev.AnonymousHash, Added: ev.Added, Hidden: ev.Hidden, JSON: ev.JSON,
		})
		// White space between the lines of a client's JSON is lost, and what is not UTF-8 is changed: that shows when it is read again.
		var again Record
		if err == nil && utf8.Valid(text) && again.UnmarshalJSON(text) == nil && bytes.Equal(again, r) {
			return text, nil
		}
	}
	return json.Marshal(map[string][]byte{"record": append([]byte{}, r...)})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (r *Record) UnmarshalJSON(text []byte) error {
	var in shownRecord
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields() // it would be lost
	if err := dec.Decode(&in); err != nil {
		return err
	}
	if in.JSON == nil {
		*r = append([]byte{}, in.Record...)
		return nil
	}
	ev := event.Event{
		ID: in.ID, APIKey: in.APIKey, Account: in.Account, Received: in.Received, Class: in.Class, Server: in.Server, Enveloped: in.Enveloped, Source: in.Source,
		SourceIP: in.SourceIP, UserAgent: in.UserAgent, Email: in.Email, AnonymousHash: in.AnonymousHash, Added: in.Added, Hidden: in.Hidden, JSON: in.JSON,
	}
	*r = ev.AppendTo(nil)
	return nil
}

// MaxDepth bounds the nesting of events: what reads them recurses. Ingest takes less.
const MaxDepth = 256

// CheckObject says why data is not one JSON object.
func CheckObject(data []byte) error {
	depth, inText := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("nesting exceeds limit: %d", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	var object map[string]json.RawMessage
	err := json.Unmarshal(data, &object)
	switch _, syntax := errors.AsType[*json.SyntaxError](err); {
	case syntax:
		return fmt.Errorf("it must be one JSON object: %w", err)
	case err != nil || object == nil:
		return errors.New("it must be one JSON object")
	}
	return nil
}
