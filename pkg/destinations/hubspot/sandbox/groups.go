package sandbox

import (
	"maps"
	"net/http"
	"slices"
)

// listGroups answers GET properties/groups.
func (st *state) listGroups(*call) answer {
	b := []byte(`{"results":[`)
	for i, name := range slices.Sorted(maps.Keys(st.groups)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendGroup(b, name, st.groups[name])
	}
	return answer{status: http.StatusOK, body: append(b, "]}"...)}
}

// createGroup answers POST properties/groups.
func (st *state) createGroup(c *call) answer {
	name, label := c.json.Get("name").String(), c.json.Get("label").String()
	switch {
	case name == "" || label == "":
		return st.fail(badInput("Invalid input JSON on line 1, column 1: Some required fields were not set: [name, label]"))
	case !isName(name, 100):
		return st.fail(badInput("Property group name '" + name + "' is invalid"))
	case st.groups[name] != "":
		return st.fail(&apiError{
			status: http.StatusConflict, category: alreadyExists, message: "A property group named '" + name + "' already exists.", // modelled
		})
	}
	st.groups[name] = label
	return answer{status: http.StatusCreated, body: appendGroup(nil, name, label)}
}

func appendGroup(b []byte, name, label string) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, name)
	b = append(b, `,"label":`...)
	b = appendString(b, label)
	return append(b, `,"displayOrder":-1,"archived":false}`...)
}
