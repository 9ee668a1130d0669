%%% @doc The device's modules under generated names, as newer nodes load them.
-module(device_copy).
-export([group/0, forms/1, modules/0, modules/1, package/1, parse_transform/2]).

-define(ROOT, "_hb_device_websocket_1_0_").

%% @doc All modules of the device, the root first. They are listed from the application's
%% folder, so a new one cannot be forgotten.
-spec group() -> [module()].
group() ->
    modules_in(filename:dirname(code:which(dev_websocket)), ".beam").

%% @doc The abstract code of a module.
-spec forms(module()) -> [term()].
forms(Module) ->
    {ok, {_, [{abstract_code, {raw_abstract_v1, Forms}}]}} = beam_lib:chunks(code:which(Module), [abstract_code]),
    Forms.

%% @doc Copies of them, the root first: module, file and beam of each.
-spec modules() -> [{module(), string(), binary()}].
modules() ->
    modules(fun(_Module, Forms) -> Forms end).

%% @doc Copies of a device that differs.
-spec modules(fun((module(), [term()]) -> [term()])) -> [{module(), string(), binary()}].
modules(Change) ->
    Group = group(),
    [
        loadable(compile:forms(renamed(Change(Module, forms(Module)), names(Group, "copy")), [debug_info]))
     ||
        Module <- Group
    ].

%% @doc The content of a package that is made from a folder: the modules, compiled from their sources
%% with no options of this project, and the resources, with their paths in the folder
%% that a node unpacks them to.
-spec package(file:filename()) -> {[{module(), string(), binary()}], [{file:filename(), binary()}]}.
package(Folder) ->
    Group = modules_in(Folder, ".erl"),
    Options = [binary, debug_info, return_errors, {parse_transform, ?MODULE}, {?MODULE, names(Group, "packaged")}],
    Modules = [
        loadable(compile:file(filename:join(Folder, atom_to_list(Module)), Options))
     ||
        Module <- Group
    ],
    Resources = filename:join(Folder, "priv"),
    Files = [
        {Name, element(2, {ok, _} = file:read_file(filename:join(Resources, Name)))}
     ||
        Name <- filelib:wildcard("**/*", Resources),
        filelib:is_regular(filename:join(Resources, Name))
    ],
    {Modules, Files}.

%% @doc A packager renames while it compiles.
parse_transform(Forms, Options) ->
    renamed(Forms, proplists:get_value(?MODULE, Options)).

%%% Private functions.

modules_in(Folder, Extension) ->
    [
        list_to_atom(Name)
     ||
        File <- lists:sort(filelib:wildcard("dev_websocket*" ++ Extension, Folder)),
        Name <- [filename:basename(File, Extension)],
        string:find(Name, "_tests") =:= nomatch
    ].

loadable({ok, Module, Beam}) ->
    {Module, "ebin/" ++ atom_to_list(Module) ++ ".beam", Beam}.

names(Group, Hash) ->
    maps:from_list([{Module, name(atom_to_list(Module), ?ROOT ++ Hash)} || Module <- Group]).

name("dev_websocket", Root) -> list_to_atom(Root);
name("dev_websocket_" ++ Helper, Root) -> list_to_atom(Root ++ "__" ++ Helper).

%% @doc Rename the modules of the group wherever they stand as literal atoms, and
%% nothing else, as a packager does.
renamed(Forms, Names) ->
    [
        case Form of
            {attribute, Anno, module, Module} -> {attribute, Anno, module, maps:get(Module, Names)};
            _ -> substituted(Form, Names)
        end
     ||
        Form <- Forms
    ].

substituted({atom, Anno, Name}, Names) when is_map_key(Name, Names) -> {atom, Anno, maps:get(Name, Names)};
substituted(Tuple, Names) when is_tuple(Tuple) -> list_to_tuple(substituted(tuple_to_list(Tuple), Names));
substituted([Head | Tail], Names) -> [substituted(Head, Names) | substituted(Tail, Names)];
substituted(Other, _Names) -> Other.
