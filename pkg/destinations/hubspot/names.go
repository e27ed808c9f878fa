package hubspot

// utf16Len is the length of s as HubSpot counts characters: Java's, where those outside the basic plane count twice.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// cutText shortens s to at most n characters, at a rune's border.
func cutText(s string, n int) (text string, was bool) {
	if len(s) <= n {
		return s, false
	}
	for i, r := range s {
		n--
		if r > 0xffff {
			n--
		}
		if n < 0 {
			return s[:i], true
		}
	}
	return s, false
}

// cleanName writes a client's name of a property as HubSpot's internal names are: letters and digits, lower case, every run of
// other characters one underscore.
func cleanName(s string) string {
	clean := true
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' && (i == 0 || s[i-1] != '_') {
			continue
		}
		clean = false
		break
	}
	if clean {
		return s
	}
	b := make([]byte, 0, len(s))
	for _, r := range s {
		switch {
		case r >= 'A' && r <= 'Z':
			b = append(b, byte(r)+'a'-'A')
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b = append(b, byte(r))
		case len(b) == 0 || b[len(b)-1] != '_':
			b = append(b, '_')
		}
	}
	return string(b)
}

// snakeName is cleanName with an underscore where a word begins: firstName is first_name, userID user_id, HTTPPort http_port. It is "" for
// names that are no such compound.
func snakeName(s string) string {
	var b []byte
	for i := range len(s) {
		if i > 0 && isUpper(s[i]) && (isLower(s[i-1]) || isUpper(s[i-1]) && i+1 < len(s) && isLower(s[i+1])) {
			if b == nil {
				b = append(make([]byte, 0, len(s)+4), s[:i]...)
			}
			b = append(b, '_')
		}
		if b != nil {
			b = append(b, s[i])
		}
	}
	if b == nil {
		return ""
	}
	return cleanName(string(b))
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

func isLower(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
