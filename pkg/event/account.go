package event

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxAccount is how many bytes the name of an account may have.
const MaxAccount = 256

// CheckAccount says what is wrong with the name of an account; an empty one names none, and is not wrong here. Names that people would take for each other are wrong: with what does not print, such as
// marks that turn the direction of a text, with a space at an end, or with U+FFFD, which stands for whatever could not be read.
func CheckAccount(account string) error {
	switch {
	case len(account) > MaxAccount:
		return fmt.Errorf("account is longer than %d bytes", MaxAccount)
	case strings.ContainsFunc(account, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }):
		return errors.New("account holds a character that does not print")
	case strings.TrimSpace(account) != account:
		return errors.New("account has a space at an end")
	}
	return nil
}
