package hubspot

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

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
