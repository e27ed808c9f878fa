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
	from    string   // the JSON that it was made of
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
