package event

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// json appends the JSON of the changed event: the result without what the envelope shows.
func (c *change) json(dst []byte) []byte {
	w := objectWriter{dst: dst}
	w.open()
	for i := range c.result.members {
		m := c.result.at(i)
		own, view := c.own.find(m.key), c.view.find(m.key)
		switch m.key {
		case FieldAPIKey:
			if isSame(m, view) {
				w.putOwn(own)
			}
		case FieldEventID:
			if c.writesID {
				w.put(m)
			}
		case FieldTimestamp, FieldSource, FieldSourceIP:
			w.putChanged(m, own, view, true)
		case FieldUserAgent:
			w.putChanged(m, own, view, c.keepsUserAgent && !c.context())
		case fieldContext:
			c.putContext(&w, m, own, view)
		case "user":
			c.putUser(&w, m, own, view)
		default:
			elsewhere := c.context() && (m.key == FieldLocation || m.key == FieldParsedUA)
			w.putChanged(m, own, view, !elsewhere && slices.Contains(c.keepsAdded, m.key))
		}
	}
	if c.keepsID { // what the client wrote as id, which nobody sees
		w.putOwn(c.own.find(FieldEventID))
		if !c.view.find("event_id").is() && !c.result.find("event_id").is() {
			w.putOwn(c.own.find("event_id"))
		}
	}
	return w.close()
}

// putContext puts the eventn_ctx object.
func (c *change) putContext(w *objectWriter, m, own, view member) {
	if !c.context() || c.moved() || !own.is() {
		w.putChanged(m, own, view, false)
		return
	}
	if m.raw == view.raw && c.keepsID && c.keepsUsers() {
		w.putOwn(own)
		return
	}
	w.key(m)
	w.open()
	for i := range c.resultContext.members {
		m := c.resultContext.at(i)
		own, view := c.ownContext.find(m.key), c.viewContext.find(m.key)
		switch m.key {
		case "event_id":
			if c.writesID {
				w.put(m)
			} else if c.keepsID {
				w.putOwn(own)
			}
		case "user":
			c.putUser(w, m, own, view)
		case FieldUserAgent:
			w.putChanged(m, own, view, c.keepsUserAgent)
		default:
			w.putChanged(m, own, view, slices.Contains(c.keepsAdded, m.key) && (m.key == FieldLocation || m.key == FieldParsedUA))
		}
	}
	w.dst = w.close()
}

// keepsUsers says whether nothing that the envelope shows in users has changed.
func (c *change) keepsUsers() bool {
	return c.keepsEmail == (c.from.Email != "") && c.keepsHash == (c.from.AnonymousHash != "")
}

// putUser puts a user, in which the envelope may show an e-mail and a hash.
func (c *change) putUser(w *objectWriter, m, own, view member) {
	shown := c.from.Email != "" || c.from.AnonymousHash != ""
	if !shown || !own.is() || !view.is() || !isObject(m.raw) || !isObject(view.raw) {
		w.putChanged(m, own, view, false)
		return
	}
	if m.raw == view.raw && c.keepsUsers() {
		w.putOwn(own)
		return
	}
	c.ownUser.read(own.raw)
	c.viewUser.read(view.raw)
	c.resultUser.read(m.raw)
	w.key(m)
	w.open()
	for i := range c.resultUser.members {
		m := c.resultUser.at(i)
		kept := m.key == "email" && c.keepsEmail || m.key == FieldAnonymousHash && c.keepsHash
		if kept {
			w.putOwn(c.ownUser.find(m.key))
			continue
		}
		w.putChanged(m, c.ownUser.find(m.key), c.viewUser.find(m.key), false)
	}
	w.dst = w.close()
}

func isObject(raw string) bool { return strings.HasPrefix(raw, "{") }

// objectWriter writes an object member by member.
type objectWriter struct {
	dst   []byte
	empty bool
}

func (w *objectWriter) open() {
	w.dst = append(w.dst, '{')
	w.empty = true
}

// close ends the object that was opened last, and goes on with the one around it.
func (w *objectWriter) close() []byte {
	w.empty = false
	return append(w.dst, '}')
}

func (w *objectWriter) key(m member) {
	if !w.empty {
		w.dst = append(w.dst, ',')
	}
	w.empty = false
	w.dst = append(append(w.dst, m.rawKey...), ':')
}

func (w *objectWriter) put(m member) {
	w.key(m)
	w.dst = append(w.dst, m.raw...)
}

// putOwn puts what the client wrote, if it wrote anything.
func (w *objectWriter) putOwn(own member) {
	if own.is() {
		w.put(own)
	}
}

// putChanged puts a member of the result: as the client wrote it when it is still the same; not at all when it is, and was only in the envelope and stays there.
func (w *objectWriter) putChanged(m, own, view member, kept bool) {
	switch {
	case !isSame(m, view):
		w.put(m)
	case kept:
		w.putOwn(own)
	case own.is() && own.raw == view.raw:
		w.put(own)
	default:
		w.put(m)
	}
}

// same says whether two values of JSON are one, when the first may have been through JavaScript: there, a number is written in one way only.
func same(a, b string) bool { return a == b || sameValue(gjson.Parse(a), gjson.Parse(b)) }

func sameValue(a, b gjson.Result) bool {
	switch {
	case a.Raw == b.Raw:
		return true
	case a.Type != b.Type:
		return false
	case a.Type == gjson.Number:
		return a.Raw == scriptNumber(b.Num)
	case a.Type == gjson.String: // half characters come out alike, although they are not
		return a.Str == b.Str && !strings.ContainsRune(a.Str, '\uFFFD')
	case a.IsArray() && b.IsArray():
		return sameElements(a, b)
	case a.IsObject() && b.IsObject():
		var x, y object
		x.read(a.Raw)
		y.read(b.Raw)
		if len(x.members) != len(y.members) {
			return false
		}
		for i := range x.members {
			m := x.at(i)
			if other := y.find(m.key); !other.is() || !same(m.raw, other.raw) {
				return false
			}
		}
		return true
	}
	return false
}

func sameElements(a, b gjson.Result) bool {
	var list []gjson.Result
	b.ForEach(func(_, v gjson.Result) bool {
		list = append(list, v)
		return true
	})
	n, equal := 0, true
	a.ForEach(func(_, v gjson.Result) bool {
		equal = n < len(list) && sameValue(v, list[n])
		n++
		return equal
	})
	return equal && n == len(list)
}

// scriptNumber is how JavaScript writes a number.
func scriptNumber(f float64) string {
	abs := math.Abs(f)
	if abs == 0 {
		return "0"
	}
	if abs >= 1e-6 && abs < 1e21 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	return strings.Replace(text, "e-0", "e-", 1)
}
