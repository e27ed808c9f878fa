package router

import (
	"errors"
	"fmt"
)

// Reload replaces the routes, at any time. A destination is known by its name. What becomes of it:
//
//   - The same Destination value, Type and Retry as before: its lanes, calls, pauses and blocks go on as they are. Filter, APIKeys and Lanes are those of
//     the new route from now on.
//   - Another Destination, Type or Retry: calls in flight finish and are recorded, and nothing new is sent meanwhile. Then its lanes go on with the new
//     one, at once and without delays that were made before: blocked lanes are tried, and so is what waits for a retry.
//   - No route any more: calls in flight finish, and its lanes are parked until there is one again.
//
// Events that are accepted after Reload has returned are sorted by the new routes. It waits for nothing; of several calls the last counts. An error means that
// the routes are as they were.
func (r *Router) Reload(routes []Route) error {
	if err := checkRoutes(routes); err != nil {
		return err
	}
	return errors.New("routes can not be replaced yet")
}

func checkRoutes(routes []Route) error {
	names := map[string]bool{}
	for _, route := range routes {
		if names[route.Name] {
			return fmt.Errorf("destination %q is routed twice", route.Name)
		}
		names[route.Name] = true
	}
	return nil
}
