// Package java stands in for the module of the same name, whose zip cannot be had from the Go module
// proxy. The provider only fills this struct as metadata for generating a Java SDK, which is never done here.
package java

// PackageInfo has the fields that the provider sets.
type PackageInfo struct {
	BuildFiles                      string            `json:"buildFiles,omitempty"`
	GradleNexusPublishPluginVersion string            `json:"gradleNexusPublishPluginVersion,omitempty"`
	Dependencies                    map[string]string `json:"dependencies,omitempty"`
}
