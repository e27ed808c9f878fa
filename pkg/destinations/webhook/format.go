package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"strings"

	"github.com/tidwall/gjson"
)

// format is what bodies are.
type format struct {
	contentType string
	json        bool // a body is JSON, or lines of it
	several     bool // a body is a list of events, also of a single one
	lines       bool // a list is a line each, not an array
}

const (
	typeJSON  = "application/json"
	typeLines = "application/x-ndjson"
)

// newFormat is that of a content type; "": the usual one.
func newFormat(contentType string, b *BatchSettings) format {
	f := format{contentType: contentType, several: b.MaxEvents > 1, lines: b.Format == formatNDJSON}
	if contentType == "" {
		f.contentType = typeJSON
		if f.lines {
			f.contentType = typeLines
		}
	}
	f.json = isJSON(f.contentType)
	return f
}

// isJSON says whether bodies of a type are JSON.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == typeJSON || media == typeLines || media == "application/jsonl" || strings.HasSuffix(media, "+json"))
}

var (
	errNoBody  = errors.New("the template gives nothing; filter such events out, or write what is to be sent instead")
	errNotJSON = errors.New("what the template gives is not JSON; return an object, write {{json .field}} in a Go template, or set content_type to what it is")
)

// body is what the value of a template is on the wire: text as it is, all else as JSON.
func (f *format) body(v gjson.Result) ([]byte, error) {
	switch {
	case !v.Exists() || v.Type == gjson.Null:
		return nil, errNoBody
	case v.Type != gjson.String:
		return []byte(v.Raw), nil
	case f.json && !json.Valid([]byte(v.Str)):
		return nil, errNotJSON
	}
	return []byte(v.Str), nil
}

// join is the body of a request about messages.
func (f *format) join(messages []*message) []byte {
	if messages[0].target.enveloped || !f.several && !f.lines {
		return messages[0].body
	}
	size := 2
	for _, m := range messages {
		size += len(m.body) + 1
	}
	out := make([]byte, 0, size)
	if !f.lines {
		out = append(out, '[')
		for i, m := range messages {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, m.body...)
		}
		return append(out, ']')
	}
	for _, m := range messages {
		out = append(appendLine(out, m.body), '\n')
	}
	return out
}

// appendLine appends JSON without the line breaks between its parts.
func appendLine(dst, body []byte) []byte {
	if bytes.IndexByte(body, '\n') < 0 && bytes.IndexByte(body, '\r') < 0 {
		return append(dst, body...)
	}
	var line bytes.Buffer
	if json.Compact(&line, body) != nil { // only what is no JSON
		return append(dst, body...)
	}
	return append(dst, line.Bytes()...)
}
