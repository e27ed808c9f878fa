package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxHubs is how many hubs one call may add.
const maxHubs = 10_000

// postedHubs is one hub, or count of them with the ids from first on.
type postedHubs struct {
	Hub
	First int `json:"first"`
	Count int `json:"count"`
}

// hubs checks the posted values.
func (in *postedHubs) hubs() ([]Hub, error) {
	if in.First == 0 && in.Count == 0 {
		return []Hub{in.Hub}, nil
	}
	if in.ID != "" || in.Name != "" || in.First < 1 || in.Count < 1 || in.Count > maxHubs {
		return nil, fmt.Errorf("give id and name of one hub, or first and count (from 1 to %d) of many", maxHubs)
	}
	list := Hubs(in.First, in.Count)
	for i := range list {
		list[i].Tier = in.Tier
	}
	return list, nil
}

// serveProvider answers what serveView lists below apps, hubs and installs; name is the path there.
func (s *Sandbox) serveProvider(w http.ResponseWriter, r *http.Request, name string) {
	first, rest, _ := strings.Cut(name, "/")
	id, below, _ := strings.Cut(rest, "/")
	switch {
	case r.Method == http.MethodGet && name == "apps":
		list := s.provider.listApps()
		writeList(w, len(list), list)
	case r.Method == http.MethodPost && name == "apps":
		s.postApp(w, r)
	case r.Method == http.MethodGet && name == "hubs":
		list := s.provider.listHubs("")
		writeList(w, len(list), list)
	case r.Method == http.MethodPost && name == "hubs":
		s.postHubs(w, r)
	case first == "hubs" && r.Method == http.MethodDelete && below == "":
		done(w, s.RemoveHub(id))
	case first == "hubs":
		s.serveHub(w, r, id, below)
	case r.Method == http.MethodGet && name == "installs":
		list := s.Installs()
		writeList(w, len(list), list)
	case first == "installs":
		s.changeInstall(w, r, rest)
	default:
		http.NotFound(w, r)
	}
}

// done answers a change that has nothing to show.
func done(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveHub shows one hub as serveView does; path is what follows its id.
func (s *Sandbox) serveHub(w http.ResponseWriter, r *http.Request, id, path string) {
	hub := s.provider.hub(id)
	if hub == nil {
		http.Error(w, "no hub with that id", http.StatusNotFound)
		return
	}
	in := r.Clone(r.Context())
	in.URL.Path = viewPath + "/" + path
	hub.serveView(w, in)
}

func (s *Sandbox) postApp(w http.ResponseWriter, r *http.Request) {
	var a App
	if !readControl(w, r, &a) {
		return
	}
	if err := s.Register(a); err != nil {
		refuseControl(w, err)
		return
	}
	registered := s.provider.app(a.ClientID)
	registered.ClientSecret = ""
	writeView(w, http.StatusCreated, registered)
}

// listApps lists the apps without their secrets, by client id.
func (p *provider) listApps() []App {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []App{}
	for _, a := range p.apps {
		one := *a
		one.ClientSecret = ""
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b App) int { return strings.Compare(a.ClientID, b.ClientID) })
	return list
}

func (s *Sandbox) postHubs(w http.ResponseWriter, r *http.Request) {
	var in postedHubs
	if !readControl(w, r, &in) {
		return
	}
	list, err := in.hubs()
	if err == nil {
		err = s.AddHubs(list...)
	}
	if err != nil {
		refuseControl(w, err)
		return
	}
	writeView(w, http.StatusCreated, map[string]int{"added": len(list)})
}

// changeInstall answers DELETE installs/APP/HUB, and POST installs/APP/HUB/uninstall, /expire and /revoke. "*" is any app, or any hub. A
// form, such as the button of the page of hubs, leads back to that page.
func (s *Sandbox) changeInstall(w http.ResponseWriter, r *http.Request, path string) {
	parts := strings.Split(path, "/")
	if r.Method == http.MethodDelete {
		parts = append(parts, "uninstall")
	} else if r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	if len(parts) != 3 {
		http.NotFound(w, r)
		return
	}
	client, hub := strings.TrimPrefix(parts[0], "*"), strings.TrimPrefix(parts[1], "*")
	var err error
	switch parts[2] {
	case "uninstall":
		err = s.Uninstall(client, hub)
	case "expire":
		err = s.ExpireAccess(client, hub)
	case "revoke":
		err = s.RevokeRefresh(client, hub)
	default:
		err = errors.New("what to do is none of uninstall, expire and revoke")
	}
	if err == nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		http.Redirect(w, r, pagesPath+"hubs", http.StatusSeeOther)
		return
	}
	done(w, err)
}

// hubRow is a line of the page of hubs.
type hubRow struct {
	Hub
	Path     string // of its own pages
	Installs []installRow
}

type installRow struct {
	Install
	Path string // for what can be done about it
}

// hubsPage shows who installed what; the text searches ids, names and apps.
func (s *Sandbox) hubsPage(p *page, skip int) string {
	p.Title, p.Search = "Hubs", "Id, name or app"
	hubs, needle := s.provider.listHubs(""), strings.ToLower(p.Query)
	installs := map[string][]installRow{}
	for _, in := range s.Installs() {
		path := viewPath + "/installs/" + url.PathEscape(in.ClientID) + "/" + in.HubID
		installs[in.HubID] = append(installs[in.HubID], installRow{in, path})
	}
	list, more := pick(len(hubs), skip, func(i int) bool {
		text := hubs[i].ID + " " + hubs[i].Name
		for _, in := range installs[hubs[i].ID] {
			text += " " + in.ClientID + " " + in.App
		}
		return strings.Contains(strings.ToLower(text), needle)
	})
	rows := []hubRow{}
	for _, i := range list {
		rows = append(rows, hubRow{hubs[i], s.hubPath(hubs[i].ID), installs[hubs[i].ID]})
	}
	p.List, p.Caption = rows, fmt.Sprintf("%d shown of %d", len(rows), len(hubs))
	p.Apps = s.provider.listApps()
	p.rest("hubs", skip, more)
	return "hubs"
}

// hubPath is where a hub is looked into.
func (s *Sandbox) hubPath(id string) string {
	if id == s.provider.top.initial.HubID {
		return viewPath
	}
	return viewPath + "/hubs/" + id
}
