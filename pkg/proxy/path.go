package proxy

import (
	"net/url"
	"slices"
	"strings"
)

// maxPath is the longest path that is forwarded, in bytes.
const maxPath = 2048

// splitPath takes a path apart, as it is written in the request, without decoding. It takes only paths that can be understood in one way: what each server on the way might
// normalise, each in its own manner, is a problem here, for then what is allowed and what is called could be two things.
func splitPath(raw string) (segments []string, problem string) {
	switch {
	case !strings.HasPrefix(raw, "/") || raw == "/":
		return nil, "the path of HubSpot's API must follow the name of the app, as in /crm/v3/objects/contacts"
	case len(raw) > maxPath:
		return nil, "it is longer than 2048 bytes"
	}
	segments = strings.Split(raw[1:], "/")
	for _, s := range segments {
		if problem := segmentProblem(s); problem != "" {
			return nil, problem
		}
	}
	return segments, ""
}

// segmentProblem says what is wrong with a part of a path.
func segmentProblem(s string) string {
	switch {
	case s == "":
		return "it has two slashes in a row, or one at its end"
	case strings.Trim(s, ".") == "":
		return "it has a part made of dots"
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%':
			if i+2 >= len(s) || !isEscapable(s[i+1], s[i+2]) {
				return "it has an escape that is none, or one for a character that needs none or may not be there: letters, digits, - . _ ~ and / \\ % ? # ; control characters, and what is not ASCII"
			}
			i += 2
		case !isPlain(s[i]):
			return "it has a character that must be escaped, or may not be there"
		}
	}
	return ""
}

// isPlain says whether a character may stand in a path as it is. None of them means anything to a server.
func isPlain(c byte) bool { return isUnreserved(c) || strings.IndexByte("@:,+=!$&'()", c) >= 0 }

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// isEscapable says whether a character may stand in a path escaped, by two hexadecimal digits.
func isEscapable(hi, lo byte) bool {
	h, ok := hexDigit(hi)
	l, also := hexDigit(lo)
	c := h<<4 | l
	return ok && also && c >= ' ' && c < 0x7f && !isUnreserved(c) && strings.IndexByte(`/\%?#;`, c) < 0
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// tokenWords are parts of paths below which HubSpot hands out tokens, or tells of them. They are compared in lower case.
var tokenWords = []string{"oauth", "token", "tokens", "private-app", "private-apps", "access-token-info", "introspect"}

// answersTokens says whether a path is never forwarded, whatever is allowed.
func answersTokens(segments []string) bool {
	return slices.ContainsFunc(segments, func(s string) bool {
		s = strings.ToLower(s)
		return slices.Contains(tokenWords, s) || strings.Contains(s, "access-token") || strings.Contains(s, "refresh-token")
	})
}

// secretArgs are arguments of a query that are credentials: of ours, and HubSpot's old ones.
var secretArgs = []string{"token", "api_key", "apikey", "hapikey", "access_token", "refresh_token", "client_secret"}

// cleanQuery is a query without credentials, by name or as they are in secrets, else as it is written; ok is false for one that can not be sent on.
func cleanQuery(raw string, secrets []string) (query string, ok bool) {
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
		return "", false
	}
	var kept []string
	for pair := range strings.SplitSeq(raw, "&") {
		plain, err := url.QueryUnescape(pair)
		if err != nil {
			return "", false
		}
		name, _, _ := strings.Cut(strings.ToLower(plain), "=")
		if pair == "" || slices.Contains(secretArgs, name) || strings.HasPrefix(name, "p_") || holdsAny(plain, secrets) {
			continue
		}
		kept = append(kept, pair)
	}
	return strings.Join(kept, "&"), true
}

// shownPath is a path for the log: what stands where a rule has a * is the id of a record, or the name of a property; anything else may be of a person, such as an address that
// a contact is asked for by, and is left out.
func shownPath(segments []string, r rule, query string) string {
	var b strings.Builder
	byProperty := strings.Contains(strings.ToLower(query), "idproperty")
	for i, s := range segments {
		b.WriteByte('/')
		free := i >= len(r.segments) || r.segments[i] == anyPart
		if free && (byProperty || !isName(s)) {
			s = anyPart
		}
		b.WriteString(s)
	}
	return b.String()
}

// shownRefused is a path that no rule allows, for the log: parts that are no names are left out, and where a record is asked for by a property all that are no words of HubSpot's own.
func shownRefused(segments []string, query string) string {
	var b strings.Builder
	byProperty := strings.Contains(strings.ToLower(query), "idproperty")
	for _, s := range segments {
		b.WriteByte('/')
		if !isName(s) || byProperty && !presetWords[s] {
			s = anyPart
		}
		b.WriteString(s)
	}
	return b.String()
}

// isName says whether a part of a path is such as ids and names of HubSpot's are.
func isName(s string) bool {
	return len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
	})
}
