package sandbox

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// problem is why a value was refused.
type problem struct{ code, message, name string }

// Codes of problems.
const (
	propertyDoesntExist = "PROPERTY_DOESNT_EXIST"
	readOnlyValue       = "READ_ONLY_VALUE"
	invalidEmail        = "INVALID_EMAIL"
	invalidInteger      = "INVALID_INTEGER"
	invalidLong         = "INVALID_LONG"
	invalidDate         = "INVALID_DATE"
	invalidOption       = "INVALID_OPTION"
	conflictingValue    = "CONFLICTING_UNIQUE_VALUE"
	missingRequired     = "MISSING_REQUIRED_PROPERTY"
	missingConditional  = "MISSING_CONDITIONAL_REQUIRED_PROPERTY"
	valueTooLong        = "PROPERTY_VALUE_TOO_LONG" // modelled: the real code is not known
)

// checks are the rules for values by property type; types that are not here take any string.
var checks = map[string]func(*property, string) *problem{
	"number":      checkNumber,
	"date":        checkDate,
	"datetime":    checkDatetime,
	"bool":        checkBool,
	"enumeration": checkOption,
}

// maxString is the limit of string values, in characters.
const maxString = 65536

func checkString(p *property, v string) *problem {
	if len(v) > maxString && utf8.RuneCountInString(v) > maxString {
		return &problem{valueTooLong, "Property value is too long; the limit is 65536 characters.", p.Name}
	}
	return nil
}

// checkNumber takes decimal text: no exponent ("1.4e-14 was not a valid number." is a real answer), no separators, no spaces.
func checkNumber(p *property, v string) *problem {
	if !isDecimal(v) {
		return &problem{invalidInteger, v + " was not a valid number.", p.Name}
	}
	return nil
}

func isDecimal(v string) bool {
	v = strings.TrimPrefix(v, "-")
	digits, dots := 0, 0
	for i := range len(v) {
		switch {
		case v[i] >= '0' && v[i] <= '9':
			digits++
		case v[i] == '.':
			dots++
		default:
			return false
		}
	}
	return digits > 0 && dots <= 1
}

// checkDate takes YYYY-MM-DD or milliseconds at midnight UTC.
func checkDate(p *property, v string) *problem {
	if _, err := time.Parse(time.DateOnly, v); err == nil {
		return nil
	}
	ms, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return &problem{invalidDate, v + " was not a valid date.", p.Name}
	}
	t := time.UnixMilli(ms).UTC()
	if t.Year() < 1026 || t.Year() > 3026 {
		return &problem{invalidDate, v + " is more than 1,000 years ago or 1,000 years from now.", p.Name}
	}
	if h, m, s := t.Clock(); h+m+s+t.Nanosecond() != 0 {
		return &problem{invalidDate, fmt.Sprintf("%s is at %d:%d:%d.%d UTC, not midnight!", v, h, m, s, t.Nanosecond()/1e6), p.Name}
	}
	return nil
}

// checkDatetime takes ISO 8601 or milliseconds.
func checkDatetime(p *property, v string) *problem {
	if _, ok := parseTime(v); !ok {
		return &problem{invalidLong, v + " was not a valid long.", p.Name}
	}
	return nil
}

// timeLayouts are the forms of ISO 8601 that are taken; fractions of seconds pass with any.
var timeLayouts = []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z07:00", time.DateOnly}

// parseTime reads ISO 8601 or milliseconds since 1970.
func parseTime(v string) (time.Time, bool) {
	if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
		return time.UnixMilli(ms).UTC(), true
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, v); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func checkBool(p *property, v string) *problem {
	if v != "true" && v != "false" {
		return p.notAnOption(v)
	}
	return nil
}

// checkOption takes one option, or for checkboxes several: "a;b" replaces, ";a;b" adds.
func checkOption(p *property, v string) *problem {
	if len(p.options) == 0 {
		return nil
	}
	if !p.multiple() {
		if _, ok := p.options[v]; !ok {
			return p.notAnOption(v)
		}
		return nil
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(v, ";"), ";") {
		if _, ok := p.options[part]; !ok {
			return p.notAnOption(part)
		}
	}
	return nil
}

func (p *property) notAnOption(v string) *problem {
	return &problem{invalidOption, v + " was not one of the allowed options: " + p.allowed, p.Name}
}

// union adds the options of a ";b;c" value to those of old, keeping their order.
func union(old, added string) string {
	list := strings.FieldsFunc(old, func(r rune) bool { return r == ';' })
	for part := range strings.SplitSeq(strings.TrimPrefix(added, ";"), ";") {
		known := false
		for _, o := range list {
			known = known || o == part
		}
		if !known {
			list = append(list, part)
		}
	}
	return strings.Join(list, ";")
}

// isEmail is a rough check of what HubSpot refuses: no @, spaces, no dot or a numeric end in the domain.
func isEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || len(s) > 254 || strings.ContainsAny(s, " \t\r\n,;<>()\"\\") || strings.Contains(domain, "@") {
		return false
	}
	if strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(s, "..") {
		return false
	}
	dot := strings.LastIndexByte(domain, '.')
	if dot <= 0 || len(domain)-dot < 3 {
		return false
	}
	for i := range len(domain) {
		b := domain[i]
		letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
		if !letter && (i > dot && !strings.HasPrefix(domain[dot+1:], "xn--") || b != '.' && b != '-' && (b < '0' || b > '9')) {
			return false
		}
	}
	return domain[0] != '-' && domain[0] != '.'
}

// foldEmail is the form in which HubSpot keeps and compares addresses.
func foldEmail(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// valuesNotValid is the whole of a refusal by problems: JSON inside the message, and errors[].
func valuesNotValid(problems []problem) *apiError {
	b := []byte("Property values were not valid: [")
	for i, p := range problems {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"isValid":false`...)
		b = appendMember(b, "message", p.message)
		b = appendMember(b, "error", p.code)
		b = appendMember(b, "name", p.name)
		b = append(b, '}')
	}
	e := badInput(string(append(b, ']')))
	e.details = problems
	return e
}
