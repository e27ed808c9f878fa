package filters

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"eventrouter/pkg/event"
)

// What Jitsu takes for a constant: dotted identifiers, or dotted quoted ones.
var (
	plainName  = regexp.MustCompile(`^(?:[a-zA-Z][a-zA-Z0-9_$#]*[.]?)+$`)
	quotedName = regexp.MustCompile(`^(?:["][^"\n\r\t]+["][.]?)+$`)
)

// constant is a template without expressions: the table name itself, quotes included.
type constant string

func (c constant) evalEvent(*event.Event) (string, bool, error) { return string(c), true, nil }

func isConstant(src string) bool {
	return plainName.MatchString(src) || quotedName.MatchString(src) || isURL(src)
}

func isURL(src string) bool {
	if strings.ContainsAny(src, " \t\r\n") {
		return false
	}
	u, err := url.Parse(src)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// fieldRoots are names under which events carry their fields; a constant that begins with one was hardly meant as a table name.
var fieldRoots = map[string]bool{
	"event": true, "event_type": true, "user": true, "eventn_ctx": true, "eventn_ctx_event_id": true, "src": true,
	"source_ip": true, "api_key": true, "user_agent": true, "conversion": true, "revenue": true,
}

// constantWarnings tells of constants that look like something else: in a constant nothing is evaluated.
func constantWarnings(src string) []string {
	if !result(src, true).Keep {
		return []string{fmt.Sprintf("%q is a constant that skips every event", src)}
	}
	if src == "true" || src == "undefined" {
		return []string{fmt.Sprintf("%q is a constant table name: every event is kept", src)}
	}
	root, rest, dotted := strings.Cut(src, ".")
	if absent[root] != "" {
		return []string{fmt.Sprintf("%q is a constant table name, not an expression: every event is kept", src)}
	}
	if builtins[root] && dotted || src == "destinationId" || src == "destinationType" || src == "TABLE_NAME" {
		return []string{fmt.Sprintf("%q is a constant table name, not an expression: every event is kept; write (%s) for the expression", src, src)}
	}
	if !fieldRoots[root] {
		return nil
	}
	field := src
	if root == "event" {
		field = rest
	}
	if field == "" {
		return []string{fmt.Sprintf("%q is a constant table name, not the event: every event is kept", src)}
	}
	return []string{fmt.Sprintf("%q is a constant table name, not a field: every event is kept; write $.%s for the field", src, field)}
}
