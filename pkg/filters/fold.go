package filters

import (
	"strings"
	"unicode"
)

// fold returns s so that texts which differ only in case are the same; s itself when nothing changes.
func fold(s string) string { return strings.Map(foldRune, s) }

// foldRune picks one of all runes that differ only in case, for ASCII the small letter.
func foldRune(r rune) rune {
	if r < unicode.MaxASCII {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if least < unicode.MaxASCII {
		return foldRune(least)
	}
	return least
}
