package sandbox

import (
	"net/http"
	"strings"
)

// upsertContacts answers POST contacts/batch/upsert: records are found by e-mail or a unique property, or made. Properties that an
// input does not name keep their values.
func (st *state) upsertContacts(c *call) answer {
	if e := st.checkBatch(c, need{id: true, fields: true}); e != nil {
		return st.fail(e)
	}
	for i := range c.inputs {
		in := &c.inputs[i]
		if e := st.checkIDProperty(in.idProperty); e != nil {
			return st.fail(e)
		}
		in.upsert = true
		in.target = st.contacts.by(in.idProperty, in.id)
		in.isNew = in.target == nil
		if in.idProperty == "email" && !isEmail(in.id) && in.isNew && in.value("email") == nil {
			in.problems = append(in.problems, problem{invalidEmail, "Email address " + in.id + " is invalid", "email"})
		}
		st.checkInput(in)
	}
	return st.writeBatch(c, http.StatusOK)
}

// checkIDProperty refuses what does not identify a contact. Upserts always need one.
func (st *state) checkIDProperty(name string) *apiError {
	if p := st.contactProperty(name); name == "email" || p != nil && p.HasUniqueValue {
		return nil
	}
	return badInput("Unable to perform update/upsert by non-unique 0-1 property " + name + " in portal ID " + st.opts.HubID)
}

// createContacts answers POST contacts/batch/create.
func (st *state) createContacts(c *call) answer {
	if e := st.checkBatch(c, need{fields: true}); e != nil {
		return st.fail(e)
	}
	for i := range c.inputs {
		c.inputs[i].isNew = true
		st.checkInput(&c.inputs[i])
	}
	return st.writeBatch(c, http.StatusCreated)
}

// updateContacts answers POST contacts/batch/update: by record id, in dated versions also by a unique property. Unknown ids never fail
// the others: they make a 207 even without trace ids, which hides that nothing was written.
func (st *state) updateContacts(c *call) answer {
	if e := st.checkBatch(c, need{id: true, fields: true}); e != nil {
		return st.fail(e)
	}
	var unknown []string
	known := c.inputs[:0]
	for i := range c.inputs {
		in := &c.inputs[i]
		if in.idProperty != "" && c.version == "v3" {
			return st.fail(badInput("Unable to perform update/upsert by non-unique 0-1 property " + in.idProperty + " in portal ID " + st.opts.HubID))
		}
		if in.target = st.contacts.by(in.idProperty, in.id); in.target == nil {
			unknown = append(unknown, in.id)
			continue
		}
		st.checkInput(in)
		known = append(known, *in)
	}
	c.inputs = known
	return st.writeBatch(c, http.StatusOK, unknownContacts(unknown)...)
}

// unknownContacts is the item error for ids that no contact has.
func unknownContacts(ids []string) []apiError {
	if len(ids) == 0 {
		return nil
	}
	return []apiError{{
		category: notFound,
		message:  "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid.",
		context:  []contextEntry{{"ids", ids}},
	}}
}

// value returns the last field of that name: of duplicate JSON keys the last counts.
func (in *input) value(property string) *field {
	for i := len(in.fields) - 1; i >= 0; i-- {
		if in.fields[i].name == property {
			return &in.fields[i]
		}
	}
	return nil
}

// checkInput finds all that keeps in from being written.
func (st *state) checkInput(in *input) {
	st.checkFields(in)
	st.checkRules(in)
	if len(in.problems) > 0 {
		in.failed = valuesNotValid(in.problems)
		return
	}
	if f := in.value("email"); f != nil && f.value != "" {
		if holder := st.contacts.byEmail[f.value]; holder != nil && holder != in.target {
			in.failed = alreadyExistsAs(holder)
			return
		}
	}
	if in.isNew && !in.upsert && in.value("email") == nil && in.value("firstname") == nil && in.value("lastname") == nil {
		in.failed = badInput("A contact needs at least one of email, firstname and lastname") // the text is modelled
	}
}

// writeBatch writes the inputs that did not fail and answers. Without trace ids a failure refuses the whole call and nothing is written.
func (st *state) writeBatch(c *call, ok int, failures ...apiError) answer {
	if !traced(c.inputs) {
		if e := wholeFailure(c.inputs); e != nil {
			return st.fail(e)
		}
	}
	a := st.newBatch(len(c.inputs) * 768)
	a.failures = failures
	for i := range c.inputs {
		in := &c.inputs[i]
		if in.failed == nil {
			in.failed = st.write(in)
		}
		if in.failed != nil {
			a.failures = append(a.failures, in.itemError())
		}
	}
	for _, i := range st.shuffle(len(c.inputs)) {
		if in := &c.inputs[i]; in.failed == nil {
			a.next()
			a.b = st.appendWrite(a.b, in)
		}
	}
	return a.finish(ok)
}

// wholeFailure merges what is wrong with untraced inputs into one refusal.
func wholeFailure(inputs []input) *apiError {
	var problems []problem
	var first *apiError
	for i := range inputs {
		problems = append(problems, inputs[i].problems...)
		if first == nil && inputs[i].failed != nil {
			first = inputs[i].failed
		}
	}
	if len(problems) > 0 {
		return valuesNotValid(problems)
	}
	if first != nil && first.category == conflict {
		return &apiError{status: first.status, category: conflict, message: "Contact already exists"} // no id in batches
	}
	return first
}

// itemError is the failure as one of a partial success, named by the trace id.
func (in *input) itemError() apiError {
	e := *in.failed
	e.context = append([]contextEntry{{"objectWriteTraceId", []string{in.trace}}}, e.context...)
	return e
}

// write applies in, which was checked. It fails only when an earlier input of the batch took the address.
func (st *state) write(in *input) *apiError {
	if in.upsert && in.isNew { // an earlier input may have made it
		in.target = st.contacts.by(in.idProperty, in.id)
		in.isNew = in.target == nil
	}
	if f := in.value("email"); f != nil && f.value != "" {
		if holder := st.contacts.byEmail[f.value]; holder != nil && holder != in.target {
			return alreadyExistsAs(holder)
		}
	}
	if in.isNew {
		in.target = st.contacts.add(st.now, len(in.fields)+1)
		if f := in.value(in.idProperty); in.upsert && (f == nil || f.value == "") {
			st.setValue(in.target, field{value: in.id, prop: st.properties.view[in.idProperty]})
		}
		if stage := st.opts.LifecycleStage; stage != "" && in.value("lifecyclestage") == nil {
			st.setValue(in.target, field{value: stage, prop: st.properties.view["lifecyclestage"]})
		}
	}
	for _, f := range in.fields {
		if in.upsert && f.name == in.idProperty && f.value == "" {
			continue // what identifies the record cannot be cleared by it
		}
		st.setValue(in.target, f)
	}
	in.target.updated = st.now
	return nil
}

// setValue writes one property by the rules of its kind.
func (st *state) setValue(ct *contact, f field) {
	p := f.prop
	f.value = strings.Clone(f.value) // so that the body is not kept alive
	switch {
	case p.Name == "email":
		if !st.setEmail(ct, f.value) {
			return
		}
	case p.Name == "lifecyclestage":
		// Moves forward only; the way back is to clear it first.
		old, known := p.options[ct.stored(p.Name)]
		if known && f.value != "" && p.options[f.value] < old {
			return
		}
	case p.multiple() && strings.HasPrefix(f.value, ";"):
		f.value = union(ct.stored(p.Name), f.value)
	case p.HasUniqueValue:
		st.contacts.setUnique(p.Name, ct.stored(p.Name), f.value, ct)
	}
	ct.set(p.Name, f.value, st.seq, st.now.at, st.opts.KeepWrites)
}

// setEmail moves the index. It reports false for an address that the contact has as a secondary one: it stays that (modelled).
func (st *state) setEmail(ct *contact, email string) bool {
	old := ct.stored("email")
	if email == old {
		return true
	}
	for _, e := range ct.emails {
		if e == email {
			return false
		}
	}
	if st.opts.KeepOldEmail && old != "" && email != "" {
		ct.emails = append(ct.emails, old)
	} else {
		delete(st.contacts.byEmail, old)
	}
	if email != "" {
		st.contacts.byEmail[email] = ct
	}
	return true
}

// appendWrite appends the result of a write.
func (st *state) appendWrite(b []byte, in *input) []byte {
	b = st.appendRecord(b, in.target, func(b []byte) []byte { return st.appendWritten(b, in.target, in.isNew) })
	if in.upsert {
		if in.isNew {
			b = append(b, `,"new":true`...)
		} else {
			b = append(b, `,"new":false`...)
		}
	}
	b = appendMember(b, "objectWriteTraceId", in.trace)
	b = st.appendWarnings(b, in.changed)
	return append(b, '}')
}
