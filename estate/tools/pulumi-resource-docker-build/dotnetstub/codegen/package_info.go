// Package codegen stands in for the module of the same name, whose zip cannot be had from the Go module
// proxy. The provider only fills this struct as metadata for generating a .NET SDK, which is never done here.
package codegen

// CSharpPackageInfo has the fields that the provider sets.
type CSharpPackageInfo struct {
	RespectSchemaVersion bool              `json:"respectSchemaVersion,omitempty"`
	PackageReferences    map[string]string `json:"packageReferences,omitempty"`
}
