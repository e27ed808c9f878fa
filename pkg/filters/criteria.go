package filters

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// maxMatchBytes bounds the text that a regular expression of a filter looks at.
const maxMatchBytes = 16 << 10

// criteria is what one value of an event must meet, all of it.
type criteria struct {
	values    []string        // one of them; nil: any value
	many      map[string]bool // values, if they are many
	numbers   []decimal       // those of values that are numbers
	begins    []string        // one of them; as all that follow
	ends      []string
	inside    []string
	patterns  []*regexp.Regexp
	edges     []edge // each of them
	fold      bool   // texts are compared without regard to case; those in here are folded
	textLimit error  // what to say of a text that is too long for patterns
}

// manyValues is from how many on a map is faster than to look at each.
const manyValues = 12

// edge is where the numbers, or the times, end that a condition wants.
type edge struct {
	op     string // gt, gte, lt or lte
	number decimal
	time   time.Time // zero: number counts
}

// meets says whether a value of an event, neither an object nor an array nor null, meets all criteria.
func (c *criteria) meets(raw string) (bool, error) {
	isNumber := raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'
	text := textOf(raw)
	for i := range c.edges {
		if !c.edges[i].holds(text, isNumber) {
			return false, nil
		}
	}
	if c.patterns != nil {
		if len(text) > maxMatchBytes {
			return false, c.textLimit
		}
		if !slices.ContainsFunc(c.patterns, func(p *regexp.Regexp) bool { return p.MatchString(text) }) {
			return false, nil
		}
	}
	if c.fold {
		text = fold(text)
	}
	return (c.values == nil || c.isValue(text, isNumber)) &&
		(c.begins == nil || slices.ContainsFunc(c.begins, func(s string) bool { return strings.HasPrefix(text, s) })) &&
		(c.ends == nil || slices.ContainsFunc(c.ends, func(s string) bool { return strings.HasSuffix(text, s) })) &&
		(c.inside == nil || slices.ContainsFunc(c.inside, func(s string) bool { return strings.Contains(text, s) })), nil
}

func (c *criteria) isValue(text string, isNumber bool) bool {
	if c.many != nil && c.many[text] || c.many == nil && slices.Contains(c.values, text) {
		return true
	}
	if !isNumber || len(c.numbers) == 0 {
		return false
	}
	d, ok := parseDecimal(text)
	return ok && slices.ContainsFunc(c.numbers, func(n decimal) bool { return n.compare(d) == 0 })
}

// textOf is a value as text: what a text says, and for others what the client wrote.
func textOf(raw string) string {
	switch {
	case raw[0] != '"':
		return raw
	case len(raw) > 1 && strings.IndexByte(raw, '\\') < 0:
		return raw[1 : len(raw)-1]
	}
	return gjson.Parse(raw).Str
}

func (b *edge) holds(text string, isNumber bool) bool {
	order := 0
	if b.time.IsZero() {
		d, ok := parseDecimal(text)
		if !ok {
			return false
		}
		order = d.compare(b.number)
	} else {
		at, _, ok := parseDate(text, isNumber)
		if !ok {
			return false
		}
		order = at.Compare(b.time)
	}
	switch b.op {
	case "gt":
		return order > 0
	case "gte":
		return order >= 0
	case "lt":
		return order < 0
	}
	return order <= 0
}

// parseDate reads a time or a whole day, which begins at midnight UTC.
func parseDate(text string, isNumber bool) (at time.Time, day, ok bool) {
	v := gjson.Result{Type: gjson.String, Str: text}
	if isNumber {
		v = gjson.Parse(text)
	} else if len(text) == len(time.DateOnly) {
		if at, err := time.Parse(time.DateOnly, text); err == nil {
			return at, true, true
		}
	}
	at, ok = event.ParseTime(v)
	return at, false, ok
}

// limitOf is the error for a text of the member at path that is too long.
func limitOf(path string) error {
	return fmt.Errorf("%w: filter: %s is longer than the %d bytes that `matches` looks at", ErrLimit, path, maxMatchBytes)
}
