package config

import "testing"

func TestProblems(t *testing.T) {
	at := func(line int, path, text string) Problem {
		return Problem{Pos{File: "router.yaml", Line: line}, path, text}
	}
	f := func(got Problems, want string) {
		t.Helper()
		if got.Error() != want {
			t.Errorf("got %s\nwant %s", got.Error(), want)
		}
	}
	unset, missing, other := at(5, "a.token", "is not set"), at(5, "a.token", "is required"), at(3, "a.hub", "is required")

	f(Problems{unset, other, unset}.Sorted(), "router.yaml:3: a.hub: is required\nrouter.yaml:5: a.token: is not set")
	f(Problems{unset, missing}.Sorted(), "router.yaml:5: a.token: is not set\nrouter.yaml:5: a.token: is required")
	f(Problems{unset}.With(Problems{missing, other}).Sorted(), "router.yaml:3: a.hub: is required\nrouter.yaml:5: a.token: is not set")
	f(Problems(nil).With(Problems{missing, at(5, "a.token", "is short")}), "router.yaml:5: a.token: is required\nrouter.yaml:5: a.token: is short")
}
