"""Our own images: built from apps/, pushed, and from then on referenced only by digest."""

from typing import cast

import pulumi
import pulumi_docker_build as docker_build

from infra.settings.stack import StackSettings


class AppImage(pulumi.ComponentResource):
    """The image of one service in apps/."""

    reference: pulumi.Output[str]
    """Reference by digest: registry/path@sha256:…"""

    def __init__(self, name: str, settings: StackSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Build and push the image, or take the digest that the stack names.

        Args:
            name: folder in apps/, and name of the image.
            settings: the stack's settings.
            opts: resource options.
        """
        super().__init__("estate:images:AppImage", name, {}, opts)
        if settings.build:
            self.reference = self._build(name, settings).ref.apply(by_digest)
        else:
            self.reference = pulumi.Output.from_input(settings.digests[name])
        self.register_outputs({"reference": self.reference})

    def _build(self, name: str, settings: StackSettings) -> docker_build.Image:
        # Paths are relative to the program: the location of a clone makes no difference to the image.
        return docker_build.Image(
            name,
            tags=[f"{settings.registry}/{name}:{pulumi.get_stack()}"],
            context=docker_build.BuildContextArgs(location="."),
            dockerfile=docker_build.DockerfileArgs(location=f"apps/{name}/Dockerfile"),
            build_args={"PYTHON_IMAGE": settings.images.python},
            platforms=[docker_build.Platform.LINUX_AMD64],
            push=True,
            build_on_preview=False,
            # Deleting it would delete the digest in the registry, which another stack may run:
            # https://github.com/pulumi/pulumi-docker-build/issues/606
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )


def by_digest(reference: str) -> str:
    """Return a reference of docker-build's; where it has no digest, the image is yet to be built, and the reference is unknown.

    In the preview of another build the provider gives a tag for what only the build tells (pulumi-docker-build, provider/internal/image.go, `Create`).
    """
    return reference if "@" in reference else cast("str", pulumi.UNKNOWN)
