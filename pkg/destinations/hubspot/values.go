package hubspot

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// kind says how values of a property travel. Everything that HubSpot adds some day is text.
type kind uint8

const (
	kindString kind = iota
	kindNumber
	kindBool
	kindDate
	kindDatetime
	kindEnum
)

var kinds = map[string]kind{
	"number": kindNumber, "bool": kindBool, "date": kindDate, "datetime": kindDatetime, "enumeration": kindEnum,
}

// maxStringValue is the length that HubSpot allows in a string property of a contact, in characters.
const maxStringValue = 65536

// valueType is what decides how a value is written: the type of a contact property or of an event property.
type valueType struct {
	kind     kind
	multi    bool // several options, joined by ;
	external bool // options are kept elsewhere: not checked
	// options maps each option's value, its value in lower case and its label in lower case to the value.
	options map[string]string
}

// absent says whether a value counts as not sent: null and "".
func absent(v gjson.Result) bool {
	return v.Type == gjson.Null || v.Type == gjson.String && v.Str == ""
}

// format writes v as t wants it; ok is false when it does not fit.
func (t *valueType) format(v gjson.Result) (text string, ok bool) {
	switch t.kind {
	case kindNumber:
		return formatNumber(v)
	case kindBool:
		return formatBool(v)
	case kindDate:
		at, ok := parseTime(v)
		return at.Format(time.DateOnly), ok
	case kindDatetime:
		at, ok := parseTime(v)
		return strconv.FormatInt(at.UnixMilli(), 10), ok
	case kindEnum:
		return t.formatOption(v)
	default:
		text = plainText(v)
		return text, len(text) <= maxStringValue || utf16Len(text) <= maxStringValue
	}
}

// plainText is v as text: a list of scalars joined by ;, other lists and objects as JSON.
func plainText(v gjson.Result) string {
	switch v.Type {
	case gjson.String:
		return v.Str
	case gjson.JSON:
		if items, ok := scalars(v); ok {
			return strings.Join(items, ";")
		}
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(v.Raw)) == nil {
			return compact.String()
		}
	}
	return v.Raw
}

// scalars returns the texts of a list without nested lists or objects; null and "" are left out.
func scalars(v gjson.Result) (items []string, ok bool) {
	if !v.IsArray() {
		return nil, false
	}
	ok = true
	v.ForEach(func(_, item gjson.Result) bool {
		if item.Type == gjson.JSON {
			ok = false
			return false
		}
		if !absent(item) {
			items = append(items, plainText(item))
		}
		return true
	})
	return items, ok
}

func formatNumber(v gjson.Result) (string, bool) {
	s := strings.TrimSpace(v.Str)
	if v.Type == gjson.Number {
		s = v.Raw
		if strings.ContainsAny(s, "eE") {
			return expand(s)
		}
	}
	return s, isDecimal(s)
}

// isDecimal is HubSpot's grammar of numbers: digits, perhaps a sign before and a part after one dot.
func isDecimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole, part, dotted := strings.Cut(s, ".")
	return isDigits(whole) && (!dotted || isDigits(part))
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// expand writes a JSON number without its exponent. Those beyond what HubSpot could keep do not fit.
func expand(s string) (string, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f > 1e21 || f < -1e21 {
		return "", false
	}
	return strconv.FormatFloat(f, 'f', -1, 64), true
}

func formatBool(v gjson.Result) (string, bool) {
	switch v.Type {
	case gjson.True, gjson.False:
		return v.Raw, true
	case gjson.String, gjson.Number:
		switch strings.ToLower(strings.TrimSpace(plainText(v))) {
		case "true", "yes", "1":
			return "true", true
		case "false", "no", "0":
			return "false", true
		}
	}
	return "", false
}

func (t *valueType) formatOption(v gjson.Result) (string, bool) {
	if !t.multi {
		if v.IsArray() {
			items, ok := scalars(v)
			if !ok || len(items) != 1 {
				return "", false
			}
			return t.option(items[0])
		}
		if v.Type == gjson.JSON {
			return "", false
		}
		return t.option(plainText(v))
	}
	items, ok := scalars(v)
	add := "" // HubSpot adds a value that begins with a semicolon to what is there
	if v.Type != gjson.JSON {
		list := strings.TrimSpace(plainText(v))
		if strings.HasPrefix(list, ";") {
			add = ";"
		}
		items, ok = strings.Split(list, ";"), true
	}
	if !ok {
		return "", false
	}
	values := items[:0]
	for _, item := range items {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		value, ok := t.option(item)
		if !ok {
			return "", false
		}
		values = append(values, value)
	}
	return add + strings.Join(values, ";"), len(values) > 0
}

// option finds the option that s means. Yes and no stand for true and false, as on HubSpot's own forms.
func (t *valueType) option(s string) (string, bool) {
	if t.external {
		return s, true
	}
	if value, ok := t.options[s]; ok {
		return value, true
	}
	lower := strings.ToLower(strings.TrimSpace(s))
	if value, ok := t.options[lower]; ok {
		return value, true
	}
	switch lower {
	case "yes":
		lower = "true"
	case "no":
		lower = "false"
	case "true":
		lower = "yes"
	case "false":
		lower = "no"
	default:
		return "", false
	}
	value, ok := t.options[lower]
	return value, ok
}

// option of an enumeration.
type option struct{ value, label string }

// setOptions makes the options known: exact values before those in lower case, values before labels, earlier ones before later ones.
func (t *valueType) setOptions(all []option) {
	t.options = make(map[string]string, 2*len(all))
	put := func(name, value string) {
		if _, ok := t.options[name]; !ok && name != "" {
			t.options[name] = value
		}
	}
	for _, o := range all {
		put(o.value, o.value)
	}
	for _, o := range all {
		put(strings.ToLower(o.value), o.value)
	}
	for _, o := range all {
		put(strings.ToLower(o.label), o.value)
	}
}

// timeLayouts are ISO 8601 in the forms that HubSpot takes, and what databases print. Fractions of seconds pass with any; a time without a zone
// is in UTC.
var timeLayouts = [...]string{
	time.RFC3339Nano, time.DateOnly,
	"2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04",
	time.DateTime, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 UTC",
	"2006-01-02 15:04",
}

// secondsBelow tells seconds from milliseconds: as seconds it is the year 5138, as milliseconds 1973.
const secondsBelow = 1e11

// parseTime reads a time as clients write it, in UTC. HubSpot refuses those more than 1,000 years away.
func parseTime(v gjson.Result) (time.Time, bool) {
	switch v.Type {
	case gjson.String:
		s := strings.TrimSpace(v.Str)
		for _, layout := range timeLayouts {
			if at, err := time.Parse(layout, s); err == nil {
				return at.UTC(), plausible(at)
			}
		}
		if !isDecimal(s) {
			return time.Time{}, false
		}
		return parseEpoch(s)
	case gjson.Number:
		return parseEpoch(v.Raw)
	}
	return time.Time{}, false
}

// parseEpoch reads seconds or milliseconds since 1970. Eight digits that make a date are one; four are a year, which is no time.
func parseEpoch(s string) (time.Time, bool) {
	switch {
	case len(s) == 4 && isDigits(s):
		return time.Time{}, false
	case len(s) == 8:
		if at, err := time.Parse("20060102", s); err == nil && at.Year() >= 1900 && at.Year() < 2200 {
			return at, true
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f > 1e14 || f < -1e14 {
		return time.Time{}, false
	}
	if f < secondsBelow && f > -secondsBelow {
		f *= 1000
	}
	at := time.UnixMilli(int64(f)).UTC()
	return at, plausible(at)
}

func plausible(at time.Time) bool { return at.Year() > 1100 && at.Year() < 2900 }

// utf16Len is the length of s as HubSpot counts characters: Java's, where those outside the basic plane count twice.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// cutText shortens s to at most n characters, at a rune's border.
func cutText(s string, n int) (text string, was bool) {
	if len(s) <= n {
		return s, false
	}
	for i, r := range s {
		n--
		if r > 0xffff {
			n--
		}
		if n < 0 {
			return s[:i], true
		}
	}
	return s, false
}

// cleanName writes a client's name of a property as HubSpot's internal names are: letters and digits, lower case, every run of
// other characters one underscore.
func cleanName(s string) string {
	clean := true
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' && (i == 0 || s[i-1] != '_') {
			continue
		}
		clean = false
		break
	}
	if clean {
		return s
	}
	b := make([]byte, 0, len(s))
	for _, r := range s {
		switch {
		case r >= 'A' && r <= 'Z':
			b = append(b, byte(r)+'a'-'A')
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b = append(b, byte(r))
		case len(b) == 0 || b[len(b)-1] != '_':
			b = append(b, '_')
		}
	}
	return string(b)
}
