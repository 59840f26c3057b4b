"""An application with auth-gate, whose answers say whom a handler takes the caller for."""

import json
import os

from auth_gate import (
    AuthMiddleware,
    get_current_service,
    get_current_user,
    get_optional_user,
    require_roles,
    require_scopes,
)
from fastapi import Depends, FastAPI, WebSocket

app = FastAPI()
# Sets are lists in the variable.
given = json.loads(os.environ.get("MIDDLEWARE", "{}"))
app.add_middleware(AuthMiddleware, **{name: set(paths) for name, paths in given.items()})


@app.get("/editors")
async def editors(auth=Depends(require_roles("editor"))):
    return {"roles": auth.roles}


@app.get("/no-scope")
async def no_scope(user=Depends(require_scopes(""))):
    return {"scopes": user.scopes}


@app.get("/user")
async def user(user=Depends(get_current_user)):
    return {"user": user.user_id, "roles": user.roles}


@app.get("/service")
async def service(service=Depends(get_current_service)):
    return {"service": service.service_name}


@app.get("/greeting")
async def greeting(user=Depends(get_optional_user)):
    return {"user": user and user.user_id}


@app.websocket("/socket")
async def socket(socket: WebSocket):
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


@app.get("/{path:path}")
async def anything(path: str):
    return {"path": path}
