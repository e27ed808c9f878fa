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

// CheckAccount says what is wrong with the name of an account; an empty one names none, and is not wrong here.
func CheckAccount(account string) error {
	switch {
	case len(account) > MaxAccount:
		return fmt.Errorf("account is longer than %d bytes", MaxAccount)
	case !utf8.ValidString(account) || strings.ContainsFunc(account, unicode.IsControl):
		return errors.New("account holds a character that does not print")
	}
	return nil
}
