package sandbox

// strictVersion is the API version from which on the account's rules for writes hold and normalised values are told.
const strictVersion = "2026-09"

// Requirement is a rule that an account's admin made: Property needs a value when a record is created, or, if When is set, in all
// writes after which the property When has the value Equals.
type Requirement struct {
	Property string `json:"property"`
	When     string `json:"when,omitempty"`
	Equals   string `json:"equals,omitempty"`
}

// checkRules adds the problem of each rule that in breaks.
func (st *state) checkRules(in *input) {
	if st.version != strictVersion {
		return
	}
	for _, r := range st.opts.Required {
		switch {
		case in.after(r.Property) != "":
		case r.When == "":
			if in.isNew {
				in.problems = append(in.problems, problem{missingRequired, "A value for " + r.Property + " must be provided", r.Property})
			}
		case in.after(r.When) == r.Equals && (in.value(r.When) != nil || in.value(r.Property) != nil):
			in.problems = append(in.problems, problem{
				missingConditional, r.Property + " is required because of a conditional property rule based on [" + r.When + "]", r.Property,
			})
		}
	}
}

// after is what a property holds once in is written.
func (in *input) after(property string) string {
	switch f := in.value(property); {
	case f != nil && f.value != "":
		return f.value
	case in.upsert && in.idProperty == property:
		return in.id
	case f == nil && in.target != nil:
		return in.target.stored(property)
	}
	return ""
}

// normalized is a value that was written otherwise than it came.
type normalized struct{ name, raw, value string }

// appendWarnings appends ,"warnings":[...], which only the version that has rules shows. That each record has its own is modelled.
func (st *state) appendWarnings(b []byte, list []normalized) []byte {
	if st.version != strictVersion || len(list) == 0 {
		return b
	}
	b = append(b, `,"warnings":[`...)
	for i, n := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"category":"PROPERTY_VALUE_NORMALIZED","message":`...)
		b = appendString(b, "The value of property "+n.name+" was normalized.")
		b = appendContext(b, []contextEntry{{"propertyName", []string{n.name}}, {"rawValue", []string{n.raw}}, {"normalizedValue", []string{n.value}}})
		b = append(b, '}')
	}
	return append(b, ']')
}
