package proxy

import "slices"

// preset is a set of rules with a name.
type preset struct {
	name  string
	parts []part
}

// part are calls at the same places: each of calls is a method with what follows each of bases.
type part struct{ bases, calls []string }

// dates are the versions of HubSpot's API that have a date for their name. Before them were v3 and v4.
var dates = []string{"2026-03", "2026-09"}

// presets are all there are. Merging and erasing of records (merge, gdpr-delete) are in none.
var presets = slices.Concat(
	ofRecords("contacts", "0-1"), ofRecords("companies", "0-2"), ofRecords("deals", "0-3"), ofRecords("tickets", "0-5"),
	[]preset{
		{"properties.read", []part{{at("/crm/v3/properties", "/crm/properties/", ""), []string{"GET /*", "GET /*/*", "GET /*/groups/*", "POST /*/batch/read"}}}},
		{"properties.write", []part{{at("/crm/v3/properties", "/crm/properties/", ""), []string{"POST /*", "PATCH /*/*", "POST /*/groups", "PATCH /*/groups/*", "POST /*/batch/create"}}}},
		{"owners.read", []part{{at("/crm/v3/owners", "/crm/owners/", ""), []string{"GET", "GET /*"}}}},
		{"pipelines.read", []part{{at("/crm/v3/pipelines", "/crm/pipelines/", ""), []string{"GET /*", "GET /*/*", "GET /*/*/stages", "GET /*/*/stages/*"}}}},
		{"associations.read", []part{
			{at("/crm/v4/objects", "/crm/objects/", ""), []string{"GET /*/*/associations/*"}},
			{at("/crm/v4/associations", "/crm/associations/", ""), []string{"GET /*/*/labels", "POST /*/*/batch/read"}},
		}},
		{"associations.write", []part{
			{at("/crm/v4/objects", "/crm/objects/", ""), []string{"PUT /*/*/associations/*/*", "PUT /*/*/associations/default/*/*", "DELETE /*/*/associations/*/*"}},
			{at("/crm/v4/associations", "/crm/associations/", ""), []string{"POST /*/*/batch/create", "POST /*/*/batch/associate/default", "POST /*/*/batch/archive"}},
		}},
		{"events.send", []part{{[]string{"/events/v3/send"}, []string{"POST", "POST /batch"}}}},
		{"account.read", []part{{[]string{"/account-info/v3/details"}, []string{"GET"}}}},
	},
)

// ofRecords are the presets of one kind of records, which HubSpot knows by a name and by an id.
func ofRecords(name, id string) []preset {
	bases := slices.Concat(at("/crm/v3/objects/"+name, "/crm/objects/", "/"+name), at("/crm/v3/objects/"+id, "/crm/objects/", "/"+id))
	return []preset{
		{name + ".read", []part{{bases, []string{"GET", "GET /*", "POST /batch/read", "POST /search"}}}},
		{name + ".write", []part{{bases, []string{"POST", "PATCH /*", "POST /batch/create", "POST /batch/update", "POST /batch/upsert"}}}},
		{name + ".delete", []part{{bases, []string{"DELETE /*", "POST /batch/archive"}}}},
	}
}

// at are the places of a part of the API: the one without a date, and those with one between before and behind.
func at(undated, before, behind string) []string {
	places := []string{undated}
	for _, date := range dates {
		places = append(places, before+date+behind)
	}
	return places
}

// presetWords are the parts of paths that presets name.
var presetWords = func() map[string]bool {
	words := map[string]bool{}
	for _, p := range presets {
		for _, r := range p.rules() {
			for _, s := range r.segments {
				words[s] = true
			}
		}
	}
	return words
}()

func presetNames() (names []string) {
	for _, p := range presets {
		names = append(names, p.name)
	}
	return names
}

func presetOf(name string) (preset, bool) {
	i := slices.IndexFunc(presets, func(p preset) bool { return p.name == name })
	if i < 0 {
		return preset{}, false
	}
	return presets[i], true
}

// rules are what the preset allows.
func (p preset) rules() (all rules) {
	for _, part := range p.parts {
		for _, base := range part.bases {
			for _, call := range part.calls {
				all = append(all, mustRule(call, base))
			}
		}
	}
	return all
}
