"""One tree of errors, drawn once."""

import inspect

from datastore import errors
from datastore.errors import Invalid, StoreError


def test_the_drawn_tree_is_the_tree_there_is() -> None:
    classes = {
        name for name, found in inspect.getmembers(errors, inspect.isclass) if found.__module__ == errors.__name__
    }
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if line.strip().startswith(("├", "└"))}
    assert drawn | {"StoreError"} == classes
    assert all(issubclass(getattr(errors, name), StoreError) for name in classes)


def test_a_fault_is_told_from_the_object_that_holds_it() -> None:
    fault = Invalid("port", "is no port").below("ports[1]").below("ingress[0]").below("spec")
    assert (fault.path, str(fault)) == ("spec.ingress[0].ports[1].port", "spec.ingress[0].ports[1].port: is no port")
    assert Invalid("[3]", "is null").below("values").path == "values[3]"
    assert Invalid("", "is empty").below("from[0]").path == "from[0]"
