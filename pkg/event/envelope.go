package event

import (
	"bytes"

	"github.com/tidwall/gjson"
)

// WithoutEnvelopes returns json without members called FieldEnvelope, at every depth: json itself when there are none. A client may have sent them, and
// a script that copies what it gets must not pass them off as its own. json must be valid and not nested deeper than ingest allows.
func WithoutEnvelopes(json []byte) []byte {
	// A name may be written with escapes.
	if !bytes.Contains(json, []byte(FieldEnvelope)) && !bytes.Contains(json, []byte(`\u`)) {
		return json
	}
	return appendWithoutEnvelopes(make([]byte, 0, len(json)), gjson.ParseBytes(json))
}

func appendWithoutEnvelopes(dst []byte, v gjson.Result) []byte {
	if !v.IsObject() && !v.IsArray() {
		return append(dst, v.Raw...)
	}
	open, shut := byte('{'), byte('}')
	if v.IsArray() {
		open, shut = '[', ']'
	}
	dst = append(dst, open)
	empty := len(dst)
	v.ForEach(func(k, member gjson.Result) bool {
		if k.Str == FieldEnvelope {
			return true
		}
		if len(dst) > empty {
			dst = append(dst, ',')
		}
		if k.Raw != "" { // elements of a list have none
			dst = append(append(dst, k.Raw...), ':')
		}
		dst = appendWithoutEnvelopes(dst, member)
		return true
	})
	return append(dst, shut)
}
