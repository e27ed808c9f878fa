// Package docs holds the documentation; its tests hold the documentation to the code.
package docs
