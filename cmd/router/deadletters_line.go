package main

import (
	"bytes"
	"encoding/json"
	"strings"

	"eventrouter/pkg/export"
	"eventrouter/pkg/store"
)

// appendLetterLine appends a dead letter as a line of an export to dst, and returns the checksum in it.
func appendLetterLine(dst []byte, d *store.DeadLetter, damaged string) (out []byte, sum string, err error) {
	l := export.Letter{
		ID: d.ID, Destination: d.Destination, Hub: d.Hub, Account: d.Account, Lane: d.Lane, Offset: d.Offset, Index: d.Index, Outputs: d.Outputs,
		APIKey: d.APIKey, EventID: d.EventID, EventType: d.EventType, Person: d.Person, Received: d.Received.UTC(), At: d.At.UTC(),
		Attempts: d.Attempts, Replays: d.Replays, Reason: d.Reason, Error: d.Error, Problem: d.Problem, Event: d.Event, Original: d.Original,
	}
	return export.AppendLine(dst, &l, damaged)
}

// imported is a letter of an export as the store takes it in.
func imported(l *export.Letter, how *store.Replay) store.DeadLetter {
	return store.DeadLetter{
		Destination: l.Destination, Hub: l.Hub, Account: l.Account, Lane: l.Lane, Offset: l.Offset, Index: l.Index, Outputs: l.Outputs,
		APIKey: l.APIKey, EventID: l.EventID, EventType: l.EventType, Person: l.Person, Received: l.Received, At: l.At,
		Attempts: l.Attempts, Replays: l.Replays, Reason: l.Reason, Error: l.Error, Problem: l.Problem, Event: l.Event, Original: l.Original, Replay: how,
	}
}

// plainJSON is v as JSON without escapes for HTML, which would change what is to stay as it is.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), err
}

// cut shortens a text to at most n bytes, at a rune's border.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}
