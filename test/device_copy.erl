%%% @doc The device's modules under generated names, as newer nodes load them.
-module(device_copy).
-export([modules/0]).

%% @doc The copies, the root of the device first: module, file and beam of each. All
%% names of the group are renamed, as a packager does it, and nothing else is.
-spec modules() -> [{module(), string(), binary()}].
modules() ->
    [copy(Module) || Module <- [dev_websocket, dev_websocket_engine, dev_websocket_listener, dev_websocket_settings]].

copy(Module) ->
    {ok, {_, [{abstract_code, {raw_abstract_v1, Forms}}]}} = beam_lib:chunks(code:which(Module), [abstract_code]),
    {ok, Copy, Beam} = compile:forms(rename(Forms), [debug_info]),
    {Copy, atom_to_list(Copy) ++ ".beam", Beam}.

rename(Atom) when is_atom(Atom) ->
    case atom_to_list(Atom) of
        "dev_websocket" ++ Rest when Rest =:= ""; hd(Rest) =:= $_ -> list_to_atom("_hb_device_copy" ++ Rest);
        _ -> Atom
    end;
rename(Tuple) when is_tuple(Tuple) -> list_to_tuple(rename(tuple_to_list(Tuple)));
rename([Head | Tail]) -> [rename(Head) | rename(Tail)];
rename(Other) -> Other.

