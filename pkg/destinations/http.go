package destinations

import (
	"errors"
	"net/url"
	"runtime/debug"
	"sync"
)

// UserAgent names this program and its version to remotes, as the header User-Agent has it.
var UserAgent = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return "eventrouter/" + info.Main.Version
	}
	return "eventrouter/devel"
})

// PlainError takes the URL out of an error of net/http: it may hold what is not to be shown, and says nothing that the destination does not.
func PlainError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
