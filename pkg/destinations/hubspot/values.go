package hubspot

import (
	"bytes"
	"encoding/json"
	"slices"
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
	options map[string]choice
}

// choice is the option that a text means.
type choice struct {
	value string
	label bool // by its label
}

// formatted is a value as it travels.
type formatted struct {
	text    string
	how     string   // what was made of it, where that is more than another way to write the same; see the constants
	missing []string // options that the property lacks, as they were sent
}

// What may be made of a value, as details show it.
const (
	madeNumber   = "number"   // digits of 1.5e3
	madeBoolean  = "boolean"  // true of yes
	madeDay      = "day"      // of a time, in time_zone
	madeMidnight = "midnight" // a time of a day, UTC
	madeSeconds  = "seconds"  // a time of a number too small for milliseconds
	madeLabel    = "label"    // an option's value of its label
	madeList     = "list"     // text of a list
	madeJSON     = "json"     // text of an object
)

// absent says whether a value counts as not sent: null, "" and a list without anything in it.
func absent(v gjson.Result) bool {
	switch v.Type {
	case gjson.Null:
		return true
	case gjson.String:
		return v.Str == ""
	case gjson.JSON:
		items, ok := scalars(v)
		return ok && len(items) == 0
	}
	return false
}

// format writes v as t wants it, days in UTC; ok is false when it does not fit.
func (t *valueType) format(v gjson.Result) (text string, ok bool) {
	f, reason := t.formatIn(v, time.UTC)
	return f.text, reason == ""
}

// formatIn writes v as t wants it, days as they are in zone. When it does not fit there is a reason.
func (t *valueType) formatIn(v gjson.Result, zone *time.Location) (f formatted, reason string) {
	ok := true
	switch t.kind {
	case kindNumber:
		f, ok = formatNumber(v)
	case kindBool:
		f, ok = formatBool(v)
	case kindDate:
		f, ok = formatDay(v, zone)
	case kindDatetime:
		f, ok = formatTime(v)
	case kindEnum:
		return t.formatOptions(v)
	default:
		f.text, f.how = plainText(v)
		if len(f.text) > maxStringValue && utf16Len(f.text) > maxStringValue {
			return f, reasonLength
		}
	}
	if !ok {
		return f, reasonValue
	}
	return f, ""
}

// plainText is v as text: a list of scalars joined by ;, other lists and objects as JSON.
func plainText(v gjson.Result) (text, how string) {
	switch v.Type {
	case gjson.String:
		return v.Str, ""
	case gjson.JSON:
		if items, ok := scalars(v); ok {
			return strings.Join(items, ";"), madeList
		}
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(v.Raw)) == nil {
			return compact.String(), madeJSON
		}
	}
	return v.Raw, ""
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
			text, _ := plainText(item)
			items = append(items, text)
		}
		return true
	})
	return items, ok
}

func formatNumber(v gjson.Result) (f formatted, ok bool) {
	f.text = strings.TrimSpace(v.Str)
	if v.Type == gjson.Number {
		f.text = v.Raw
		if strings.ContainsAny(f.text, "eE") {
			f.how = madeNumber
			f.text, ok = expand(f.text)
			return f, ok
		}
	}
	return f, isDecimal(f.text)
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

func formatBool(v gjson.Result) (f formatted, ok bool) {
	switch v.Type {
	case gjson.True, gjson.False:
		return formatted{text: v.Raw}, true
	case gjson.String, gjson.Number:
		text, _ := plainText(v)
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "true":
			return formatted{text: "true"}, true
		case "false":
			return formatted{text: "false"}, true
		case "yes", "1":
			return formatted{text: "true", how: madeBoolean}, true
		case "no", "0":
			return formatted{text: "false", how: madeBoolean}, true
		}
	}
	return f, false
}

func formatDay(v gjson.Result, zone *time.Location) (f formatted, ok bool) {
	at, form, ok := parseTime(v)
	if form == formDay || form >= formNumber && at.Equal(at.Truncate(24*time.Hour)) {
		zone = time.UTC // it is a day already: HubSpot itself writes one as milliseconds at midnight UTC
	}
	if form != formDay {
		f.how = madeDay
	}
	f.text = at.In(zone).Format(time.DateOnly)
	return f, ok
}

func formatTime(v gjson.Result) (f formatted, ok bool) {
	at, form, ok := parseTime(v)
	switch form {
	case formDay:
		f.how = madeMidnight
	case formSeconds:
		f.how = madeSeconds
	}
	f.text = strconv.FormatInt(at.UnixMilli(), 10)
	return f, ok
}

// formatOptions finds the options that v means. Of several, those that the property lacks are left out.
func (t *valueType) formatOptions(v gjson.Result) (f formatted, reason string) {
	items, ok := scalars(v)
	add := "" // HubSpot adds a value that begins with a semicolon to what is there
	switch {
	case v.Type == gjson.JSON:
		if !ok || !t.multi && len(items) != 1 {
			return f, reasonValue
		}
	case t.multi:
		list, _ := plainText(v)
		list = strings.TrimSpace(list)
		if strings.HasPrefix(list, ";") {
			add = ";"
		}
		items = strings.Split(list, ";")
	default:
		text, _ := plainText(v)
		items = append(items, text)
	}
	values := make([]string, 0, len(items))
	for _, item := range items {
		if t.multi {
			item = strings.TrimSpace(item)
		}
		if item == "" {
			continue
		}
		value, how, ok := t.choose(item)
		if !ok {
			f.missing = append(f.missing, item)
			continue
		}
		if how != "" {
			f.how = how
		}
		if !slices.Contains(values, value) {
			values = append(values, value)
		}
	}
	switch {
	case len(values) > 0:
		f.text = add + strings.Join(values, ";")
		return f, ""
	case len(f.missing) > 0:
		return f, reasonOption
	}
	return f, reasonValue // semicolons alone
}

// option finds the option that s means.
func (t *valueType) option(s string) (string, bool) {
	value, _, ok := t.choose(s)
	return value, ok
}

// choose finds the option that s means, and says how. Yes and no stand for true and false, as on HubSpot's own forms.
func (t *valueType) choose(s string) (value, how string, ok bool) {
	if t.external {
		return s, "", true
	}
	if c, ok := t.options[s]; ok {
		return c.value, c.how(), true
	}
	lower := strings.ToLower(strings.TrimSpace(s))
	if c, ok := t.options[lower]; ok {
		return c.value, c.how(), true
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
		return "", "", false
	}
	c, ok := t.options[lower]
	return c.value, madeBoolean, ok
}

func (c choice) how() string {
	if c.label {
		return madeLabel
	}
	return ""
}

// option of an enumeration.
type option struct{ value, label string }

// setOptions makes the options known: exact values before those in lower case, values before labels, earlier ones before later ones.
func (t *valueType) setOptions(all []option) {
	t.options = make(map[string]choice, 2*len(all))
	put := func(name string, c choice) {
		if _, ok := t.options[name]; !ok && name != "" {
			t.options[name] = c
		}
	}
	for _, o := range all {
		put(o.value, choice{value: o.value})
	}
	for _, o := range all {
		put(strings.ToLower(o.value), choice{value: o.value})
	}
	for _, o := range all {
		put(strings.ToLower(o.label), choice{o.value, true})
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

// form is how a client wrote a time.
type form uint8

const (
	formTime    form = iota // a day and a time
	formDay                 // a day alone
	formNumber              // milliseconds since 1970
	formSeconds             // seconds since 1970
)

// parseTime reads a time as clients write it, in UTC. HubSpot refuses those more than 1,000 years away.
func parseTime(v gjson.Result) (at time.Time, f form, ok bool) {
	switch v.Type {
	case gjson.String:
		s := strings.TrimSpace(v.Str)
		for _, layout := range timeLayouts {
			if at, err := time.Parse(layout, s); err == nil {
				if layout == time.DateOnly {
					f = formDay
				}
				return at.UTC(), f, plausible(at)
			}
		}
		if !isDecimal(s) {
			return time.Time{}, f, false
		}
		return parseEpoch(s)
	case gjson.Number:
		return parseEpoch(v.Raw)
	}
	return time.Time{}, f, false
}

// parseEpoch reads seconds or milliseconds since 1970. Eight digits that make a date are one; four are a year, which is no time.
func parseEpoch(s string) (at time.Time, form form, ok bool) {
	switch {
	case len(s) == 4 && isDigits(s):
		return time.Time{}, formTime, false
	case len(s) == 8:
		if at, err := time.Parse("20060102", s); err == nil && at.Year() >= 1900 && at.Year() < 2200 {
			return at, formDay, true
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f > 1e14 || f < -1e14 {
		return time.Time{}, formTime, false
	}
	form = formNumber
	if f < secondsBelow && f > -secondsBelow {
		f *= 1000
		form = formSeconds
	}
	at = time.UnixMilli(int64(f)).UTC()
	return at, form, plausible(at)
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

// snakeName is cleanName with an underscore where a word begins: firstName is first_name, userID user_id, HTTPPort http_port. It is "" for
// names that are no such compound.
func snakeName(s string) string {
	var b []byte
	for i := range len(s) {
		if i > 0 && isUpper(s[i]) && (isLower(s[i-1]) || isUpper(s[i-1]) && i+1 < len(s) && isLower(s[i+1])) {
			if b == nil {
				b = append(make([]byte, 0, len(s)+4), s[:i]...)
			}
			b = append(b, '_')
		}
		if b != nil {
			b = append(b, s[i])
		}
	}
	if b == nil {
		return ""
	}
	return cleanName(string(b))
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

func isLower(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
