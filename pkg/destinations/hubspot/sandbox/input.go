package sandbox

import (
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// maxContacts is the most inputs of a batch of contacts.
const maxContacts = 100

// input is one record of a batch.
type input struct {
	id, idProperty, trace string
	fields                []field
	hasID, hasFields      bool

	target *contact  // the record it is about; nil: to be created, or unknown
	failed *apiError // why it is not written
	// problems with values, in the order of fields
	problems []problem
	changed  []normalized
	isNew    bool
	upsert   bool
}

// field is one property to write.
type field struct {
	name, value string
	prop        *property
}

// parseInputs reads the records of a batch. idProperty is that of a batch read, where it stands beside the inputs.
func parseInputs(items []gjson.Result, idProperty string) (inputs []input, wrong *apiError) {
	inputs = make([]input, len(items))
	arena := make([]field, 0, 8*len(items)) // one allocation for most batches
	for i, item := range items {
		if inputs[i], arena, wrong = parseInput(item, arena); wrong != nil {
			return nil, wrong
		}
		if idProperty != "" {
			inputs[i].idProperty = idProperty
		}
	}
	return inputs, nil
}

// parseInput reads one record. Its fields are a part of the arena, which may move.
func parseInput(item gjson.Result, arena []field) (in input, _ []field, wrong *apiError) {
	start := len(arena)
	item.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "id":
			in.id, in.hasID = strings.TrimSpace(v.String()), true
		case "idProperty":
			in.idProperty = v.String()
		case "objectWriteTraceId":
			in.trace = v.String()
		case "properties":
			in.hasFields = true
			arena, wrong = parseFields(v, arena)
		}
		return wrong == nil
	})
	in.fields = arena[start:len(arena):len(arena)]
	return in, arena, wrong
}

// parseFields reads {"name":"value"}. Numbers, booleans and null (clears; modelled) pass although only strings are documented; lists and
// objects fail the whole call, as they do not parse as text.
func parseFields(properties gjson.Result, arena []field) (_ []field, wrong *apiError) {
	if !properties.IsObject() {
		return arena, badInput("Invalid input JSON on line 1, column 1: properties must be an object")
	}
	properties.ForEach(func(k, v gjson.Result) bool {
		f := field{name: k.Str}
		switch v.Type {
		case gjson.String:
			f.value = v.Str
		case gjson.Number, gjson.True, gjson.False:
			f.value = v.Raw
		case gjson.JSON:
			wrong = badInput("Invalid input JSON on line 1, column 1: Cannot deserialize value of property " + f.name + " as a string")
			return false
		}
		arena = append(arena, f)
		return true
	})
	return arena, wrong
}

// need says which parts of inputs an operation requires.
type need struct{ id, fields bool }

// checkBatch refuses batches that are wrong as a whole, traced or not.
func (st *state) checkBatch(c *call, n need) *apiError {
	if len(c.inputs) > maxContacts {
		return badInput("The batch holds more inputs than the limit of 100")
	}
	var duplicates []string
	seen := make(map[string]bool, len(c.inputs))
	for i := range c.inputs {
		in := &c.inputs[i]
		if n.id && !in.hasID || n.fields && !in.hasFields {
			return badInput("Invalid input JSON on line 1, column 1: Some required fields were not set: [id, properties]")
		}
		if !n.id {
			continue
		}
		if in.idProperty == "email" {
			in.id = foldEmail(in.id)
		}
		if n.fields && seen[in.id] && !slices.Contains(duplicates, in.id) {
			duplicates = append(duplicates, in.id)
		}
		seen[in.id] = true
	}
	if len(duplicates) > 0 {
		e := badInput("Duplicate IDs found in batch input: [" + strings.Join(duplicates, ", ") + "]. IDs must be unique")
		e.context = []contextEntry{{"ids", duplicates}}
		return e
	}
	return nil
}

// traced reports whether each input carries an objectWriteTraceId of its own. Only then is a batch written in part.
func traced(inputs []input) bool {
	seen := make(map[string]bool, len(inputs))
	for i := range inputs {
		if t := inputs[i].trace; t == "" || seen[t] {
			return false
		}
		seen[inputs[i].trace] = true
	}
	return true
}

// contactProperty returns a visible property that is not archived, or nil.
func (st *state) contactProperty(name string) *property {
	if p := st.properties.view[name]; p != nil && !p.Archived {
		return p
	}
	return nil
}

// checkFields looks up the properties of in and checks the values.
func (st *state) checkFields(in *input) {
	for i := range in.fields {
		f := &in.fields[i]
		p := st.contactProperty(f.name)
		if p == nil {
			in.problems = append(in.problems, problem{propertyDoesntExist, `Property "` + f.name + `" does not exist`, f.name})
			continue
		}
		f.prop, f.name = p, p.Name // p.Name: so that the body is not kept alive
		if pr := st.checkValue(in, f); pr != nil {
			in.problems = append(in.problems, *pr)
		}
	}
}

func (st *state) checkValue(in *input, f *field) *problem {
	p := f.prop
	switch {
	case p.ReadOnlyValue || p.Calculated:
		return &problem{readOnlyValue, `"` + p.Name + `" is a read only property; its value cannot be set.`, p.Name}
	case f.value == "":
		return nil // clears
	case p.Name == "email":
		raw := f.value
		if f.value = foldEmail(f.value); !isEmail(f.value) {
			return &problem{invalidEmail, "Email address " + f.value + " is invalid", p.Name}
		}
		if f.value != raw {
			in.changed = append(in.changed, normalized{p.Name, raw, f.value})
		}
		return nil
	case p.HasUniqueValue:
		if holder := st.contacts.unique[p.Name][f.value]; holder != nil && holder != in.target {
			return &problem{conflictingValue, p.Name + " already has that value: " + f.value, p.Name}
		}
	}
	return p.check(p, f.value)
}

// alreadyExistsAs is the conflict of an address that another contact has.
func alreadyExistsAs(ct *contact) *apiError {
	return &apiError{
		status: http.StatusConflict, category: conflict,
		message: "Contact already exists. Existing ID: " + ct.id,
		context: []contextEntry{{"existingId", []string{ct.id}}},
	}
}
