package endusers

import (
	"errors"
	"fmt"
)

// Refusal says why a token is not taken, in words for whoever has sent it. It quotes nothing of the token.
type Refusal struct{ text string }

func (r *Refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// ErrUnavailable is wrapped by the error for a token that can not be judged, since the keys at the app's URL have never been read and can not be now: try again later.
var ErrUnavailable = errors.New("the keys to verify tokens with can not be read at the moment")
