package event

import (
	"bytes"
	"slices"

	"github.com/tidwall/gjson"
)

// Normalize resolves duplicate member names in json, at every depth: the last value wins and stands where the first one stood. Readers
// differ otherwise (gjson takes the first, encoding/json and JavaScript the last). It returns json itself when there are none, and a new slice
// otherwise. json must be valid and not nested deeper than ingest allows.
func Normalize(json []byte) []byte {
	if !mayHaveDuplicates(json) {
		return json
	}
	return appendNormalized(make([]byte, 0, len(json)), gjson.ParseBytes(json))
}

func appendNormalized(dst []byte, v gjson.Result) []byte {
	switch {
	case v.IsObject():
		type member struct {
			rawKey string
			value  gjson.Result
		}
		var members []member
		at := map[string]int{}
		v.ForEach(func(k, v gjson.Result) bool {
			if i, ok := at[k.Str]; ok {
				members[i].value = v
				return true
			}
			at[k.Str] = len(members)
			members = append(members, member{k.Raw, v})
			return true
		})
		dst = append(dst, '{')
		for i, m := range members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, m.rawKey...)
			dst = append(dst, ':')
			dst = appendNormalized(dst, m.value)
		}
		return append(dst, '}')
	case v.IsArray():
		dst = append(dst, '[')
		first := true
		v.ForEach(func(_, e gjson.Result) bool {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = appendNormalized(dst, e)
			return true
		})
		return append(dst, ']')
	default:
		return append(dst, v.Raw...)
	}
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
