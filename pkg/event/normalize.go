package event

import (
	"bytes"
	"slices"

	"github.com/tidwall/gjson"
)

// Normalize resolves duplicate member names in json, at every depth: the last value wins and stands where the first one stood. Readers
// differ otherwise (gjson takes the first, encoding/json and JavaScript the last). It returns json itself when there are none, and a new slice
// otherwise. json must be valid. It takes time for its length only, however deep it is nested.
func Normalize(json []byte) []byte {
	if !mayHaveDuplicates(json) {
		return json
	}
	n := normalizer{json: json}
	n.value(0)
	slices.SortFunc(n.edits, func(a, b edit) int { return a.from - b.from })
	return n.appendEdited(make([]byte, 0, len(json)), 0, len(json))
}

// normalizer finds what is to change in one pass, and makes the result in a second one, in which each byte is copied once at most.
type normalizer struct {
	json  []byte
	edits []edit
}

// edit puts the bytes [with, end) in the place of [from, to): of a value that came again, the last one; none in the place of a member that did.
type edit struct{ from, to, with, end int }

// namedValue is a name that an object has had, and the value that it had first.
type namedValue struct {
	name     string
	from, to int
	edit     int // its number and 1; 0: none so far
}

// value looks through the value at i, or behind spaces, and returns where it ends.
func (n *normalizer) value(i int) int {
	i = n.skip(i)
	if i >= len(n.json) {
		return i
	}
	switch n.json[i] {
	case '{':
		return n.object(i + 1)
	case '[':
		for i = n.skip(i + 1); i < len(n.json) && n.json[i] != ']'; {
			if i = n.skip(n.value(i)); i < len(n.json) && n.json[i] == ',' {
				i++
			}
		}
		return min(i+1, len(n.json))
	case '"':
		end, _, _ := scanString(n.json, i)
		return min(end+1, len(n.json))
	}
	for start := i; i < len(n.json); i++ {
		switch n.json[i] {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return max(i, start+1)
		}
	}
	return i
}

// object looks through the members of an object, of which the first begins at i.
func (n *normalizer) object(i int) int {
	var members []namedValue
	var byName map[string]int // nil while there are few
	for before := i; ; {
		i = n.skip(i)
		if i >= len(n.json) || n.json[i] != '"' {
			return min(i+1, len(n.json))
		}
		end, _, escaped := scanString(n.json, i)
		name := string(n.json[i+1 : min(end, len(n.json))])
		if escaped {
			name = gjson.ParseBytes(n.json[i:min(end+1, len(n.json))]).Str
		}
		from := n.skip(n.skip(end+1) + 1) // behind the colon
		to := n.value(from)
		at, again := find(members, byName, name)
		if again {
			m := &members[at]
			if m.edit == 0 {
				n.edits = append(n.edits, edit{from: m.from, to: m.to})
				m.edit = len(n.edits)
			}
			n.edits[m.edit-1].with, n.edits[m.edit-1].end = from, to
			n.edits = append(n.edits, edit{from: before, to: to})
		} else {
			members = append(members, namedValue{name: name, from: from, to: to})
			if byName != nil {
				byName[name] = len(members) - 1
			} else if len(members) > 16 {
				byName = make(map[string]int, 64)
				for j := range members {
					byName[members[j].name] = j
				}
			}
		}
		before = n.skip(to) // the comma, which goes with what follows it
		if i = before; i < len(n.json) && n.json[i] == ',' {
			i++
		}
	}
}

func find(members []namedValue, byName map[string]int, name string) (at int, ok bool) {
	if byName != nil {
		at, ok = byName[name]
		return at, ok
	}
	at = slices.IndexFunc(members, func(m namedValue) bool { return m.name == name })
	return at, at >= 0
}

func (n *normalizer) skip(i int) int {
	for i < len(n.json) && isSpace(n.json[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// appendEdited appends the bytes [from, to), with the edits in them, and without spaces.
func (n *normalizer) appendEdited(dst []byte, from, to int) []byte {
	for {
		i, _ := slices.BinarySearchFunc(n.edits, from, func(e edit, from int) int { return e.from - from })
		if i == len(n.edits) || n.edits[i].from >= to {
			return n.appendCompact(dst, from, to)
		}
		e := n.edits[i]
		dst = n.appendCompact(dst, from, e.from)
		dst = n.appendEdited(dst, e.with, e.end)
		from = e.to
	}
}

// appendCompact appends bytes, which begin and end between tokens, without spaces.
func (n *normalizer) appendCompact(dst []byte, from, to int) []byte {
	for i := from; i < to; i++ {
		switch c := n.json[i]; {
		case c == '"':
			end, _, _ := scanString(n.json, i)
			end = min(end+1, to)
			dst = append(dst, n.json[i:end]...)
			i = end - 1
		case !isSpace(c):
			dst = append(dst, c)
		}
	}
	return dst
}

// mayHaveDuplicates scans once and compares hashes of the names of each object; a name with an escape counts as a possible
// duplicate when its object has other members. A false positive costs only the slow path.
func mayHaveDuplicates(json []byte) bool {
	var stack [128]int // start of each open object's hashes; -1 for arrays
	var space [256]uint64
	hashes, depth := space[:0], 0
	for i := 0; i < len(json); i++ {
		switch json[i] {
		case '{', '[':
			if depth == len(stack) {
				return true
			}
			stack[depth] = len(hashes)
			if json[i] == '[' {
				stack[depth] = -1
			}
			depth++
		case '}', ']':
			depth--
			if depth < 0 {
				return true
			}
			if from := stack[depth]; from >= 0 {
				if repeats(hashes[from:]) {
					return true
				}
				hashes = hashes[:from]
			}
		case '"':
			end, hash, escaped := scanString(json, i)
			i = end
			if depth == 0 || stack[depth-1] < 0 || !isName(json, end) {
				continue
			}
			if escaped {
				return true
			}
			hashes = append(hashes, hash)
		}
	}
	return false
}

// scanString returns the index of the closing quote of the string that opens at i, and an FNV-1a hash of its bytes.
func scanString(json []byte, i int) (end int, hash uint64, escaped bool) {
	start := i + 1
	for {
		n := bytes.IndexByte(json[i+1:], '"')
		if n < 0 {
			return len(json), 0, true
		}
		i += 1 + n
		slashes := 0
		for j := i - 1; j >= start && json[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			break
		}
	}
	text := json[start:i]
	if len(text) > 64 { // only names matter, and they are short: hash the ends and the length
		hash = uint64(len(text)) * 0x9e3779b97f4a7c15
		text = append(append(make([]byte, 0, 64), text[:32]...), text[len(text)-32:]...)
	}
	hash ^= 0xcbf29ce484222325
	for _, c := range text {
		if c == '\\' {
			escaped = true
		}
		hash = (hash ^ uint64(c)) * 0x100000001b3
	}
	return i, hash, escaped
}

// isName says whether the string that closes at end is a member's name: a colon follows.
func isName(json []byte, end int) bool {
	for _, c := range json[min(end+1, len(json)):] {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c == ':'
	}
	return false
}

func repeats(hashes []uint64) bool {
	if len(hashes) > 16 {
		slices.Sort(hashes)
		for i := 1; i < len(hashes); i++ {
			if hashes[i] == hashes[i-1] {
				return true
			}
		}
		return false
	}
	for i, h := range hashes {
		if slices.Contains(hashes[:i], h) {
			return true
		}
	}
	return false
}
